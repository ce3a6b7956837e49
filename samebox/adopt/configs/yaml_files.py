"""detectron2's and maskrcnn-benchmark's YAML configs, merged with their `_BASE_` files into one mapping."""

from pathlib import Path
from typing import Any

import yaml

from samebox.adopt.configs.budget import Budget
from samebox.adopt.configs.literal import read_expression
from samebox.adopt.configs.merge import merge
from samebox.adopt.configs.text import base_path, read_text
from samebox.adopt.configs.values import UnreadValue, short_repr
from samebox.core.errors import SameboxError
from samebox.core.text import one_line

_MAX_CHARACTERS = 1 << 18  # YAML is read at 50,000 characters a second; detectron2's longest config has 2,000
_MAX_DIGITS = 100  # YAML's number 1:59:59 has base 60, and takes quadratic time
_NOT_YAML = (  # raised by PyYAML, also for a tag such as !!bool on another value
    yaml.YAMLError,
    ValueError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    RecursionError,
)


def yaml_config(path: Path) -> dict[str, Any]:
    """The config at `path`, merged with its `_BASE_`, whose path is relative to the file that names it.

    Raises SameboxError if a file is absent, is based on itself or is not a YAML mapping of plain values.
    """
    return _read(path, (), Budget(_MAX_CHARACTERS))


def _read(path: Path, chain: tuple[Path, ...], budget: Budget) -> dict[str, Any]:
    """The merged config at `path`; `chain` holds the resolved paths of the files based on it."""
    text = read_text(path, chain)
    budget.spend_characters(len(text), str(path))
    try:
        loader = _PlainLoader(text, str(path), budget)
        config = loader.plain_tree(loader.get_single_data())
    except SameboxError:
        raise
    except _NOT_YAML as error:
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
    return merge(config, _read(base_path(path, base), (*chain, path.resolve()), budget), str(path))


class _PlainLoader(yaml.SafeLoader):
    """Loads plain values. Merge keys are refused, because they let a small file expand without limit.

    `budget` counts the values, and the characters of the expressions among them.
    """

    def __init__(self, text: str, file: str, budget: Budget) -> None:
        super().__init__(text)
        self.file, self.budget = file, budget

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Raise ConstructorError for a merge key; the parent class would merge it."""
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "a merge key", node.start_mark)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """A number. Raises ConstructorError for an integer of over 64 bits."""
        if len(str(node.value)) > _MAX_DIGITS:
            raise yaml.constructor.ConstructorError(None, None, "a number of over 64 bits", node.start_mark)
        is_integer = node.tag == "tag:yaml.org,2002:int"
        value: int | float = (self.construct_yaml_int if is_integer else self.construct_yaml_float)(node)
        if is_integer and not abs(value) < 2**63:
            raise yaml.constructor.ConstructorError(None, None, "a number of over 64 bits", node.start_mark)
        return value

    def construct_expression(self, node: yaml.Node) -> Any:
        """The value of an expression that detectron2 passes to Python's `eval`; here it is read as data."""
        arguments = self.construct_sequence(node) if isinstance(node, yaml.SequenceNode) else []
        try:
            (text,) = arguments
            return read_expression(text, f"{self.file}:{node.start_mark.line + 1}", self.budget)
        except (ValueError, TypeError, AttributeError, SameboxError):
            raise yaml.constructor.ConstructorError(None, None, "a call", node.start_mark) from None

    def plain_tree(self, value: Any) -> Any:
        """`value` without shared parts, and with tuples, which YAML reads as text, as lists.

        Raises SameboxError above the budget.
        """
        self.budget.spend_value(value, self.file)
        if isinstance(value, dict):
            return {key: self.plain_tree(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.plain_tree(item) for item in value]
        if isinstance(value, str) and value.startswith("(") and value.endswith(")"):
            return self.written_tuple(value)
        return value

    def written_tuple(self, text: str) -> Any:
        """The list that `text` in parentheses writes, or `text` itself if it is not plain data."""
        try:
            value = read_expression(text, self.file, self.budget)
        except SameboxError:  # above the budget the next value raises it, too
            return text
        return text if isinstance(value, UnreadValue) else value


_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_number)
_PlainLoader.add_constructor("tag:yaml.org,2002:float", _PlainLoader.construct_number)
_PlainLoader.add_constructor("tag:yaml.org,2002:python/object/apply:eval", _PlainLoader.construct_expression)
