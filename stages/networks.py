"""The network of a `conf/detector` choice, with the weights of a checkpoint."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from samebox.checkpoints.unpickle import Checkpoint, read_checkpoint
from samebox.core.errors import SameboxError
from samebox.core.files import existing
from samebox.networks import construct
from samebox.networks.construct import LoadedNetwork
from samebox.record.preprocess import Preprocess
from samebox.record.spec import Categories, Spec
from stages.compose import plain


def load_network(config: DictConfig, path: Path) -> LoadedNetwork:
    """Build `config.detector` and load the checkpoint at `path` into it, strictly.

    `config.export` fixes the canvas by `shape`, and sets the network's `masked_norm` and `postprocess`.
    Raises SameboxError if the checkpoint belongs to another network, or the network has no masked norm.
    """
    checkpoint = read_checkpoint(existing(path, "run stages.download first"))
    detector = config.detector
    names = class_names(config, checkpoint)
    OmegaConf.update(detector, "num_classes", len(names))
    if config.export.masked_norm:
        if "masked_norm" not in detector.network:
            raise SameboxError(f"export.masked_norm: {detector.name} has no masked norm; set it to false")
        OmegaConf.update(detector.network, "masked_norm", True)
    loaded = construct.load_network(
        plain(detector), checkpoint, names, preprocess(config), config.export.postprocess
    )
    return replace(loaded, spec=replace(loaded.spec, categories=categories(config, loaded.spec)))


def class_names(config: DictConfig, checkpoint: Checkpoint) -> tuple[str, ...]:
    """The class names in the detector's config, else in the checkpoint, else in the data set."""
    return tuple(config.detector.class_names or checkpoint.class_names or config.dataset.class_names)


def categories(config: DictConfig, spec: Spec) -> Categories | None:
    """The data set's category ids of the classes; None if it states no ids or lacks one of the classes.

    Raises SameboxError if the data set has another number of ids than of classes.
    """
    rule = spec.decoding.panoptic
    ids = _ids(config, "class_names", "category_ids")
    stuff_ids = _ids(config, "stuff_class_names", "stuff_category_ids") if rule else {}
    stuff = rule.stuff_class_names if rule else ()
    if not (ids.keys() >= set(spec.class_names) and stuff_ids.keys() >= set(stuff)):
        return None
    return Categories(
        config.dataset.name,
        tuple(ids[name] for name in spec.class_names),
        tuple(stuff_ids[name] for name in stuff),
    )


def _ids(config: DictConfig, names_key: str, ids_key: str) -> dict[str, int]:
    """The data set's ids by class name, empty if it states none."""
    ids, names = config.dataset.get(ids_key) or [], config.dataset.get(names_key) or []
    if ids and len(ids) != len(names):
        raise SameboxError(f"dataset.{ids_key}: {len(ids)} ids for {len(names)} {names_key}; give one each")
    return dict(zip(names, ids, strict=False))


def preprocess(config: DictConfig) -> Preprocess:
    """The detector's preprocessing, on the fixed canvas of `export.shape` if that is not dynamic."""
    rule = Preprocess.from_dict(plain(config.detector.preprocess))
    canvas = dimensions(config.export.shape)
    return rule if canvas is None else rule.on_canvas(*canvas)


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
    """The batch size, None for "dynamic". Raises SameboxError for anything else."""
    if batch == "dynamic":
        return None
    if not isinstance(batch, int) or batch < 1:
        raise SameboxError(f"export.batch: {batch!r} is neither dynamic nor a number from 1 up")
    return batch
