"""The axes in params.yaml: the lists that the matrices of dvc.yaml combine."""

from pathlib import Path

from omegaconf import OmegaConf

PARAMS = Path(__file__).resolve().parents[1] / "params.yaml"


def axis(name: str) -> list[str]:
    """The names on an axis, in order."""
    return list(OmegaConf.select(OmegaConf.load(PARAMS), name))
