"""The runtimes: one for each file of conf/runtime, and one for each engine in each precision.

An engine is a runtime with a `flavour`. `tensorrt_rtx_fp16` is derived: it is conf/runtime/tensorrt_rtx.yaml,
built from the ONNX file in the precision of conf/precision/fp16.yaml.
"""

from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from stages.search import choices, folders


def runtimes() -> dict[str, dict[str, Any]]:
    """The config of each runtime by name, references to other configs unresolved."""
    return dict(sorted({**_derived(*folders()), **_files(*folders())}.items()))


def register() -> None:
    """Let Hydra find the derived runtimes as choices of the group `runtime`."""
    _register(*folders())


@cache
def _register(*searched: Path) -> None:
    for name, config in _derived(*searched).items():
        ConfigStore.instance().store(name, config, group="runtime")


@cache
def _files(*_: Path) -> dict[str, dict[str, Any]]:
    """The runtimes with a file in the folders of configs."""
    files: Any = {
        name: OmegaConf.to_container(OmegaConf.load(path)) for name, path in choices("runtime").items()
    }
    return files


@cache
def _derived(*searched: Path) -> dict[str, dict[str, Any]]:
    """Every engine in every precision."""
    files = _files(*searched).values()
    engines = [config for config in files if "flavour" in config and "precision" not in config]
    return {
        name_in_precision(engine["name"], precision): in_precision(engine, precision)
        for engine in engines
        for precision in choices("precision")
    }


def name_in_precision(engine: str, precision: str) -> str:
    """The name of an engine in a precision."""
    return f"{engine}_{precision}"


def in_precision(engine: dict[str, Any], precision: str) -> dict[str, Any]:
    """The config of an engine that is built from the ONNX file in `precision`.

    Its notes are those in the engine's `notes_of`; the engine's own `notes` are about fp32.
    """
    name = name_in_precision(engine["name"], precision)
    kept = {key: value for key, value in engine.items() if key not in ("notes", "notes_of")}
    return kept | {
        "name": name,
        "after": precision,
        "source": f"${{paths.artifacts}}/{precision}",
        "title": engine["title"].replace("fp32", precision),
        "folder": f"${{paths.artifacts}}/{name}",
        "precision": precision,
        "notes": engine.get("notes_of", {}).get(precision, []),
    }
