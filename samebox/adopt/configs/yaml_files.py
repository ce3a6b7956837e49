"""detectron2's and maskrcnn-benchmark's YAML configs, merged with their `_BASE_` files into one mapping."""

import io
from pathlib import Path
from typing import Any

import yaml

from samebox.adopt.configs.literal import MAX_VALUES, read_expression
from samebox.adopt.configs.merge import merge
from samebox.adopt.configs.text import base_path, read_text
from samebox.adopt.configs.values import UnreadValue, short_repr
from samebox.core.errors import SameboxError
from samebox.core.text import one_line


def yaml_config(path: Path) -> dict[str, Any]:
    """The config at `path`, merged with its `_BASE_`, whose path is relative to the file that names it.

    Raises SameboxError if a file is absent, is based on itself or is not a YAML mapping of plain values.
    """
    return _read(path, ())


def _read(path: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    """The merged config at `path`; `chain` holds the resolved paths of the files based on it."""
    stream = io.StringIO(read_text(path, chain))
    stream.name = str(path)
    try:
        config = _plain_tree(yaml.load(stream, _PlainLoader), [MAX_VALUES])
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        reason = one_line(getattr(error, "problem", None) or error)
        raise SameboxError(f"{path}:{line}: not a YAML config ({reason}); write plain values") from None
    if not isinstance(config, dict):
        raise SameboxError(f"{path}: not a mapping of sections such as MODEL; give the path of a config file")
    base = config.pop("_BASE_", None)
    if base is None:
        return config
    if not isinstance(base, str):
        raise SameboxError(f"{path}: _BASE_ is {short_repr(base)}; give the path of a file")
    return merge(config, _read(base_path(path, base), (*chain, path.resolve())), str(path))


class _PlainLoader(yaml.SafeLoader):
    """Loads plain values. Merge keys are refused, because they let a small file expand without limit."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Raise ConstructorError for a merge key; the parent class would merge it."""
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "a merge key", node.start_mark)

    def construct_expression(self, node: yaml.Node) -> Any:
        """The value of an expression that detectron2 passes to Python's `eval`; here it is read as data."""
        arguments = self.construct_sequence(node) if isinstance(node, yaml.SequenceNode) else []
        try:
            (text,) = arguments
            return read_expression(text, f"{node.start_mark.name}:{node.start_mark.line + 1}")
        except (ValueError, TypeError, AttributeError, SameboxError):
            raise yaml.constructor.ConstructorError(None, None, "a call", node.start_mark) from None


_PlainLoader.add_constructor("tag:yaml.org,2002:python/object/apply:eval", _PlainLoader.construct_expression)


def _plain_tree(value: Any, budget: list[int]) -> Any:
    """`value` without shared parts, and with tuples, which YAML reads as text, as lists.

    `budget[0]` is how many more values the file may have. Raises ValueError if it has more.
    """
    budget[0] -= 1
    if budget[0] < 0:
        raise ValueError(f"more than {MAX_VALUES} values")
    if isinstance(value, dict):
        return {key: _plain_tree(item, budget) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain_tree(item, budget) for item in value]
    if isinstance(value, str) and value.startswith("(") and value.endswith(")"):
        return _tuple(value)
    return value


def _tuple(text: str) -> Any:
    """The list that `text` in parentheses writes, or `text` itself if it is not plain data."""
    try:
        value = read_expression(text, "")
    except SameboxError:
        return text
    return text if isinstance(value, UnreadValue) else value
