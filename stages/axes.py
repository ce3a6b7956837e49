"""The axes in params.yaml, which DVC's matrices cover."""

from pathlib import Path

from omegaconf import OmegaConf

PARAMS = Path(__file__).resolve().parents[1] / "params.yaml"


def axis(name: str) -> list[str]:
    """The choices on the axis `name`, in order."""
    return list(OmegaConf.select(OmegaConf.load(PARAMS), name))
