"""The runner of a checkpoint: the network that its choice of `conf/detector` describes, in eager PyTorch.

`samebox.load` reaches Hydra only through the entry point that names this module.
"""

from pathlib import Path

from omegaconf import OmegaConf

from samebox.core.errors import SameboxError
from samebox.core.files import existing, sha256
from samebox.runners.protocol import Runner
from stages.compose import compose
from stages.runners.network import torch_runner
from stages.search import choices


def checkpoint_runner(path: Path, detector: str | None, device: str) -> Runner:
    """The runner of a checkpoint of the choice `detector`, by default of the one that names its hash.

    Raises SameboxError if no choice or several name it, or if the checkpoint belongs to another network.
    """
    choice = detector or detector_of(path)
    return torch_runner(compose("export", [f"detector={choice}"]), existing(path), device)


def detector_of(path: Path) -> str:
    """The choice of `conf/detector` that names the checkpoint's hash.

    Raises SameboxError if there is none, or more than one.
    """
    names = detectors_of(path)
    if len(names) > 1:
        raise SameboxError(f"{path}: {', '.join(names)} name this checkpoint; give one as its detector")
    if not names:
        raise SameboxError(
            f"{path}: no choice of conf/detector names this checkpoint; give its detector, or adopt its "
            "config by `samebox adopt`"
        )
    return names[0]


def detectors_of(path: Path) -> list[str]:
    """The choices of `conf/detector` whose `sha256` is the checkpoint's, or the beginning of it."""
    digest = sha256(path)
    files = choices("detector").items()
    hashes = {name: OmegaConf.select(OmegaConf.load(file), "sha256") for name, file in files}
    return [name for name, known in hashes.items() if known and digest.startswith(str(known))]
