"""Values of JSON documents, checked against the annotations of the dataclass that they become."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from samebox.core.text import one_line, printable

_LARGEST = 2**63  # integers of numpy and of ONNX are smaller
_Dataclass = TypeVar("_Dataclass")


def from_json(kind: type[_Dataclass], value: Any) -> _Dataclass:
    """The dataclass `kind` from the dict `value`, dataclasses in it included.

    Numbers must be finite and below 2^63, lists become tuples where the annotation says so, and texts become
    `printable`. Raises ValueError, which names the key, for a missing or unknown key and for a value of
    another type; and what the dataclass itself raises.
    """
    built: _Dataclass = _typed(kind, value, "")
    return built


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _typed(kind: Any, value: Any, key: str) -> Any:
    """`value` as the annotation `kind` says; `key` is its dotted place in the document."""
    if kind is Any:
        return _plain(value)
    if get_origin(kind) in (Union, UnionType):
        kinds = [choice for choice in get_args(kind) if choice is not NoneType]
        return None if value is None and NoneType in get_args(kind) else _typed(kinds[0], value, key)
    if is_dataclass(kind):
        return _dataclass(kind, value, key)
    if get_origin(kind) in (tuple, list):
        return _sequence(kind, value, key)
    if get_origin(kind) in (dict, Mapping):
        items = _instance(dict, value, key).items()
        of_values = get_args(kind)[1]
        return {printable(name): _typed(of_values, item, f"{key}.{name}") for name, item in items}
    if kind in (int, float):
        return _number(kind, value, key)
    value = _instance(kind, value, key)
    return printable(value) if kind is str else value


def _dataclass(kind: Any, value: Any, key: str) -> Any:
    values, prefix = _instance(dict, value, key), f"{key}." if key else ""
    known = {field.name: field for field in fields(kind)}
    needed = {
        name for name, field in known.items() if field.default is MISSING and field.default_factory is MISSING
    }
    if different := sorted(map(str, (needed - values.keys()) | (values.keys() - known.keys()))):
        word = "missing" if different[0] in known else "unknown"
        raise ValueError(f"{word} key {prefix}{one_line(different[0])}")
    hints = _hints(kind)
    return kind(**{name: _typed(hints[name], item, f"{prefix}{name}") for name, item in values.items()})


def _sequence(kind: Any, value: Any, key: str) -> Any:
    container, kinds = get_origin(kind), get_args(kind)
    items = _instance((list, tuple), value, key)
    if container is tuple and kinds[-1] is not Ellipsis and len(items) != len(kinds):
        raise ValueError(f"{key} has {len(items)} values instead of {len(kinds)}")
    of_items = kinds if len(kinds) == len(items) and kinds[-1] is not Ellipsis else [kinds[0]] * len(items)
    typed = [
        _typed(of_item, item, f"{key}[{index}]")
        for index, (of_item, item) in enumerate(zip(of_items, items, strict=True))
    ]
    return container(typed)


def _number(kind: type, value: Any, key: str) -> Any:
    allowed = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed):
        raise ValueError(f"{key} is {one_line(value, 40)!r}, not a number")
    if not abs(value) < _LARGEST:  # nor is NaN
        raise ValueError(f"{key} is out of range")
    return value


def _instance(kind: Any, value: Any, key: str) -> Any:
    if not isinstance(value, kind):
        name = "list" if isinstance(kind, tuple) else kind.__name__
        raise ValueError(f"{key or 'it'} is {one_line(value, 40)!r}, not a {name}")
    return value


def _plain(value: Any) -> Any:
    """A value of any type, its texts made printable."""
    if isinstance(value, dict):
        return {printable(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return printable(value) if isinstance(value, str) else value
