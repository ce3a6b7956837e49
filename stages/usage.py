"""The help of a command: its docstring, then the choices and keys of its config with default and meaning.

The meaning of a key is its comment in the YAML file that sets it.
"""

import ast
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from stages.comments import comments
from stages.runtimes import runtimes
from stages.search import CONF, choices, folders

COLUMN = 36  # of the meanings
NOTE = (
    "Every key of a choice can be given, too, such as detector.class_names=[car,bus]; the file of the choice "
    "lists them."
)


def requested(arguments: Sequence[str]) -> bool:
    """True if the arguments of a command ask for its help."""
    return not {"-h", "--help"}.isdisjoint(arguments)


def docstring(module: str) -> str:
    """The docstring of a module, read from its source: the import may take PyTorch's two seconds."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""


def text(documentation: str, config: str | None) -> str:
    """The help: the docstring, then the choices and keys of conf/`config`.yaml if there is one."""
    return "\n".join([documentation.strip(), *(_config_lines(config) if config else ())])


def _config_lines(primary: str) -> Iterator[str]:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        defaults = GlobalHydra.instance().config_loader().compute_defaults_list(primary, [], RunMode.RUN)
        config = hydra.compose(primary, return_hydra_config=True)
    chosen = {group: name for group, name in config.hydra.runtime.choices.items() if "/" not in group}
    if chosen:
        yield from ("", "Choices (KEY=NAME of a file in conf/KEY):")
    for group, name in chosen.items():
        yield f"  {group}={name}"
        yield from _wrapped(", ".join(runtimes() if group == "runtime" else choices(group)), 6)
    yield from ("", "Keys with their defaults:")
    values = OmegaConf.to_container(config)
    meanings = _meanings(primary, [(file.config_path, file.package) for file in defaults.defaults])
    for key, meaning in meanings.items():
        section = any(other.startswith(f"{key}.") for other in meanings)
        yield from _entry(key if section else f"{key}={_default(values, key)}", meaning)
    if chosen:
        yield from ("", *_wrapped(NOTE))


def _meanings(primary: str, files: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The meaning of each dotted key: first the command's own keys, then those of steps, then paths.

    `files` are the configs that `primary` is composed of, each a path below conf/ and a package. Choices are
    left out.
    """
    kept = [file for file in files if file[0].rpartition("/")[0] in ("", "step")]
    kept.sort(key=lambda file: (file[0] == "paths", "/" in file[0], file[0] != primary))
    meanings: dict[str, str] = {}
    for path, package in kept:
        for key, meaning in comments(_file(path)).items():
            if key.partition(".")[0] not in ("defaults", "hydra"):
                full = f"{package}.{key}" if package else key
                meanings[full] = meanings.get(full) or meaning
    return meanings


def _file(path: str) -> Path:
    return next(file for folder in folders() if (file := folder / f"{path}.yaml").exists())


def _default(values: Any, key: str) -> str:
    """The value of a dotted key in YAML, on one line; `???` is a value that must be given."""
    for part in key.split("."):
        values = values[part]
    return yaml.safe_dump(values, default_flow_style=True, width=1000).partition("\n")[0]


def _entry(key: str, meaning: str) -> Iterator[str]:
    """A key and its meaning, side by side if the key leaves room."""
    first, *others = _wrapped(meaning, COLUMN) or [""]
    if len(key) + 4 > COLUMN:
        yield from filter(None, (f"  {key}", first))
    else:
        yield f"  {key}{first[len(key) + 2 :]}"
    yield from others


def _wrapped(paragraph: str, indent: int = 0) -> list[str]:
    """Lines of the terminal's width, or 110 characters if it is wider."""
    space = " " * indent
    width = min(shutil.get_terminal_size().columns, 110)
    return textwrap.wrap(paragraph, max(width, indent + 30), initial_indent=space, subsequent_indent=space)
