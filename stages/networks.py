"""The network of a `conf/detector` choice, with the weights of a checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from samebox.checkpoints.unpickle import Checkpoint, read_checkpoint
from samebox.checkpoints.weights import load_strictly, renamed
from samebox.decoding import Decoding
from samebox.errors import SameboxError
from samebox.files import existing, sha256
from samebox.nets.contract import Deployable, Normalize
from samebox.preprocess import Preprocess
from samebox.spec import Spec
from stages.compose import plain, told


@dataclass(frozen=True)
class Loaded:
    """A network ready to run or export, the record that travels with it, and what the reader refused."""

    network: Deployable
    spec: Spec
    refusal: str | None


def load_network(config: DictConfig, path: Path) -> Loaded:
    """Build `config.detector` and load the checkpoint at `path` into it, strictly.

    Of `config.export`, `shape` fixes the canvas, and the network follows `masked_norm` and `postprocess`.
    Raises SameboxError where the checkpoint is another network's, or the network has no such norm.
    """
    checkpoint = read_checkpoint(existing(path, "run stages.download first"))
    detector = config.detector
    names = class_names(config, checkpoint)
    OmegaConf.update(detector, "num_classes", len(names))
    if config.export.masked_norm:
        if "masked_norm" not in detector.network:
            raise SameboxError(f"export.masked_norm: {detector.name} has no such norm; leave it false")
        OmegaConf.update(detector.network, "masked_norm", True)
    network = built(detector.network)
    state = renamed(checkpoint.state, getattr(network, "renames", ()), str(path))
    load_strictly(network, state, str(path))
    spec = Spec(
        name=detector.name,
        class_names=names,
        preprocess=preprocess(config),
        normalize=plain(detector.normalize),
        checkpoint_sha256=sha256(path),
        postprocess=config.export.postprocess,
        decoding=Decoding.from_dict(plain(detector).get("decoding", {})),
    )
    normalize = Normalize(**plain(detector.normalize))
    deployable = Deployable(normalize, network, config.export.postprocess).eval()
    return Loaded(deployable, spec, checkpoint.refusal_line())


def built(network: DictConfig) -> nn.Module:
    """The network that a config's `_target_`s name. Raises SameboxError for a value that they refuse."""
    try:
        return instantiate(network, _convert_="all")
    except InstantiationException as error:
        reason = error.__cause__ if isinstance(error.__cause__, SameboxError) else told(error)
        raise SameboxError(f"detector.network: {reason}") from None


def class_names(config: DictConfig, checkpoint: Checkpoint) -> tuple[str, ...]:
    """The detector's own where its config names them, else the checkpoint's, else the data set's."""
    return tuple(config.detector.class_names or checkpoint.class_names or config.dataset.class_names)


def preprocess(config: DictConfig) -> Preprocess:
    """The detector's rule, on the canvas that `export.shape` fixes or on any."""
    rule = Preprocess.from_dict(plain(config.detector.preprocess))
    canvas = dimensions(config.export.shape)
    return rule if canvas is None else rule.onto(*canvas)


def dimensions(shape: Any) -> tuple[int, int] | None:
    """(height, width) of "HEIGHTxWIDTH", None for "dynamic". Raises SameboxError for anything else."""
    if shape == "dynamic":
        return None
    try:
        height, width = (int(side) for side in str(shape).split("x"))
    except ValueError:
        height = width = 0
    if height < 1 or width < 1:
        raise SameboxError(f"export.shape: {shape!r} is neither dynamic nor HEIGHTxWIDTH, such as 800x1344")
    return height, width


def batch_size(batch: Any) -> int | None:
    """The number, None for "dynamic". Raises SameboxError for anything else."""
    if batch == "dynamic":
        return None
    if not isinstance(batch, int) or batch < 1:
        raise SameboxError(f"export.batch: {batch!r} is neither dynamic nor a number from 1 up")
    return batch
