"""Configs in several files, followed as far as they are there, to one mapping."""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from samebox.adopt.literal import (
    MOST_CHARACTERS,
    MOST_PARTS,
    Unread,
    expression,
    merged,
    names_of,
    parsed,
    short,
)
from samebox.core.errors import SameboxError, one_line
from samebox.core.files import existing

_MOST_FILES = 200
_DEEPEST = 20
_WHOLE = "fetch the framework's folder of configs, or adopt the config that the checkpoint itself holds"


def python_config(path: Path) -> dict[str, Any]:
    """The names of an MMDetection config with those of its `_base_` files, or of those it imports, merged.

    Raises SameboxError where a file is absent, refers to itself or is not a config.
    """
    return _PythonFiles().read(path, ())


def embedded_config(text: str, source: str) -> dict[str, Any]:
    """The names of a config that a checkpoint holds as text.

    Old ones hold the texts of all their files one after the other, each under the line of its path, those
    that others are based on first.
    """
    config: dict[str, Any] = {}
    for part in re.split(r"(?m)^[^\s=#'\"()]+\.py[ \t]*$", text):
        tree = parsed(part, source)
        config = merged(names_of(tree, source, config, _not_there(source)), config, source)
    return config


def yaml_config(path: Path) -> dict[str, Any]:
    """A detectron2 or maskrcnn-benchmark config with its `_BASE_` merged, which is relative to its file.

    Raises SameboxError where a file is absent, refers to itself or is no YAML mapping of plain values.
    """
    return _yaml_file(path, ())


class _PythonFiles:
    """Reads files, and those that they refer to, up to a number of them all together."""

    def __init__(self) -> None:
        self.count = 0

    def read(self, path: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
        """The names of a file and of all that it is based on; `chain`: the files that led to it."""
        text, chain = _text(path, chain), (*chain, path.resolve())
        self.count += 1
        if self.count > _MOST_FILES:
            raise SameboxError(f"{path}: more than {_MOST_FILES} files refer to one another; correct _base_")
        file = str(path)
        tree = parsed(text, file)

        def imported(module: str, level: int) -> dict[str, Any]:
            if level == 0:
                raise SameboxError(f"{file}: imports {module}, which is no file beside it; {_WHOLE}")
            folder = path.parents[level - 1] if level <= len(path.parents) else path.parent
            return self.read(folder.joinpath(*module.split(".")).with_suffix(".py"), chain)

        base = self.bases(path, names_of(_only_base(tree), file, {}, imported).get("_base_", []), chain)
        own = names_of(tree, file, base, imported)
        own.pop("_base_", None)
        return merged(own, base, file)

    def bases(self, path: Path, named: Any, chain: tuple[Path, ...]) -> dict[str, Any]:
        """The names of the files that `_base_` of the file at `path` names, no two of which give the same."""
        names = [named] if isinstance(named, str) else named
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise SameboxError(f"{path}: _base_ is {short(named)}; give the paths of files")
        config: dict[str, Any] = {}
        for name in names:
            found = self.read(_beside(path, name), chain)
            if twice := sorted(config.keys() & found.keys()):
                raise SameboxError(f"{path}: two of its _base_ files give {twice[0]}; correct _base_")
            config |= found
        return config


def _only_base(tree: Any) -> Any:
    """The part of a syntax tree that assigns `_base_`."""
    assigns = [node for node in tree.body if getattr(node, "targets", None)]
    body = [node for node in assigns if getattr(node.targets[0], "id", "") == "_base_"]
    return type(tree)(body=body, type_ignores=[])


def _not_there(source: str) -> Any:
    def imported(module: str, level: int) -> Mapping[str, Any]:
        raise SameboxError(f"{source}: imports {'.' * level}{module}, which it does not hold; {_WHOLE}")

    return imported


def _beside(path: Path, name: str) -> Path:
    if "::" in name or "://" in name:
        raise SameboxError(f"{path}: _base_ names {short(name)}, which is no file; {_WHOLE}")
    return path.parent / name


def _text(path: Path, chain: tuple[Path, ...]) -> str:
    """The text of a config. `chain`: the files that led to it."""
    if path.resolve() in chain:
        raise SameboxError(f"{path}: is based on itself, by way of {chain[-1].name}; correct its base")
    if len(chain) > _DEEPEST:
        raise SameboxError(f"{path}: based on more than {_DEEPEST} files in a row; correct its base")
    mend = f"{chain[-1].name} is based on it: {_WHOLE}" if chain else "check the path"
    if not existing(path, mend).is_file() or path.stat().st_size > MOST_CHARACTERS:
        raise SameboxError(f"{path}: no config, which is a file of less than a megabyte; check the path")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SameboxError(f"{path}: no text; name the config's file first and then the checkpoint") from None


class _PlainLoader(yaml.SafeLoader):
    """Plain values. Merge keys are none: they could multiply a small file without end."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse what the parent class merges."""
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "a merge key", node.start_mark)

    def literal(self, node: yaml.Node) -> Any:
        """What detectron2 has evaluated by Python: read as data, like everything else."""
        texts = self.construct_sequence(node) if isinstance(node, yaml.SequenceNode) else []
        try:
            (text,) = texts
            return expression(text, f"{node.start_mark.name}:{node.start_mark.line + 1}")
        except (ValueError, TypeError, AttributeError, SameboxError):
            raise yaml.constructor.ConstructorError(None, None, "a call", node.start_mark) from None


_PlainLoader.add_constructor("tag:yaml.org,2002:python/object/apply:eval", _PlainLoader.literal)


def _tree(value: Any, left: list[int]) -> Any:
    """`value` as a tree of at most `left[0]` parts; tuples, which YAML takes for texts, are lists."""
    left[0] -= 1
    if left[0] < 0:
        raise ValueError("more values than any config has")
    if isinstance(value, dict):
        return {key: _tree(item, left) for key, item in value.items()}
    if isinstance(value, list):
        return [_tree(item, left) for item in value]
    if isinstance(value, str) and value.startswith("(") and value.endswith(")"):
        try:
            read = expression(value, "")
        except SameboxError:
            return value
        return value if isinstance(read, Unread) else read
    return value


def _yaml_file(path: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    stream = io.StringIO(_text(path, chain))
    stream.name = str(path)
    try:
        config = _tree(yaml.load(stream, _PlainLoader), [MOST_PARTS])
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        reason = one_line(getattr(error, "problem", None) or error)
        raise SameboxError(f"{path}:{line}: not a config's YAML ({reason}); write plain values") from None
    if not isinstance(config, dict):
        raise SameboxError(f"{path}: no mapping of sections such as MODEL; name the config's file")
    base = config.pop("_BASE_", None)
    if base is None:
        return config
    if not isinstance(base, str):
        raise SameboxError(f"{path}: _BASE_ is {short(base)}; give the path of a file")
    return merged(config, _yaml_file(_beside(path, base), (*chain, path.resolve())), str(path))
