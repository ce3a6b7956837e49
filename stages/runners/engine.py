"""The runner of engines."""

from pathlib import Path

from omegaconf import DictConfig

from samebox.core.errors import NotHere
from samebox.runners.protocol import Runner
from samebox.runners.tensorrt import TensorRTRunner


def engine_runner(config: DictConfig, path: Path) -> Runner:
    """The runner of an engine. Raises NotHere with the reason that the stage engine wrote in its place."""
    reason = path.with_name(config.paths.not_built_file)
    if reason.exists():
        raise NotHere(reason.read_text().strip())
    return TensorRTRunner(path, cache=Path(config.paths.engine_cache))
