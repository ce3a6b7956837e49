"""The axes in params.yaml: the lists that the matrices of dvc.yaml combine."""

from pathlib import Path

from omegaconf import OmegaConf

from samebox.core.files import existing

PARAMS = Path("params.yaml")  # DVC runs a stage in the folder of its dvc.yaml


def axis(name: str) -> list[str]:
    """The names on an axis, in order. Raises SameboxError outside the folder of the pipeline."""
    params = existing(PARAMS, "run in the folder of dvc.yaml, such as samebox's repository")
    return list(OmegaConf.select(OmegaConf.load(params), name))
