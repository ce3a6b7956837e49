"""Write the detectors, data sets and runtimes of the pipeline with every reference in them resolved.

The other stages depend on these files, one for each choice, instead of on the folders of conf/: a new choice
there makes no other stage run again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from samebox.core.files import write_text
from stages.axes import axis
from stages.compose import compose, main
from stages.runtimes import name_in_precision


def run(config: DictConfig) -> None:
    """Write detector/NAME.yaml, dataset/NAME.yaml of the detector NAME, and runtime/NAME.yaml.

    The names are those in params.yaml. Equal configs give equal bytes. Raises SameboxError for a name
    without a config.
    """
    folder = Path(config.paths.resolved)
    for name in axis("detectors"):
        composed = compose("resolve", [f"detector={name}"])
        write(folder / "detector" / f"{name}.yaml", composed.detector)
        write(folder / "dataset" / f"{name}.yaml", composed.dataset)
    for name in runtimes():
        write(folder / "runtime" / f"{name}.yaml", compose("resolve", [f"runtime={name}"]).runtime)


def runtimes() -> Iterator[str]:
    """The runtimes that the stages engine, precise_engine and evaluate name; some several times."""
    yield from axis("runtimes")
    for engine in axis("engines"):
        yield engine
        yield from (name_in_precision(engine, precision) for precision in axis("precisions"))


def write(path: Path, part: Any) -> None:
    """Write a part of a config as YAML, its keys sorted."""
    write_text(path, OmegaConf.to_yaml(part, resolve=True, sort_keys=True))


if __name__ == "__main__":
    main("resolve", run)
