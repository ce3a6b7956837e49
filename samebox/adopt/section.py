"""A mapping in a source config that reports every key that is not supported."""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from samebox.adopt.configs.values import ImportedName, short_repr
from samebox.adopt.result import Diagnostics

_Result = TypeVar("_Result")
_FIRST_ALLOWED = object()
_NO_VALUE = object()
_COMPONENT_KEYS = ("type", "NAME", "HEAD_NAME", "FEATURE_EXTRACTOR")  # keys that name a component's type


class Section:
    """A mapping in a source config. Each key is taken once, by the method that states what it may hold.

    As a context manager it reports, at its end, every key that was not taken. Keys in `training` are not
    reported: names, or beginnings of names if they end in "*", of settings that only training uses. `path`
    is the section's own path in the config. After a component's type was rejected the section is `silent`,
    with the sections in it: nothing else about that component is reported.

    A rejected value is replaced by a valid one, so that reading continues and all problems are reported at
    once.
    """

    def __init__(
        self,
        values: Any,
        path: str,
        diagnostics: Diagnostics,
        training: Sequence[str] = (),
        silent: bool = False,
    ) -> None:
        self.path = path
        self.diagnostics = diagnostics
        self.training = training
        self.silent = silent
        self.remaining = dict(values) if isinstance(values, Mapping) else {}
        if values is not None and not isinstance(values, Mapping) and not silent:
            self.diagnostics.unsupported.append(f"{path}={short_repr(values)}")
            self.silent = True

    def __enter__(self) -> "Section":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            for key, value in self.remaining.items():
                if value is not None and not self._is_training(str(key)):
                    self.reject(str(key))

    def _is_training(self, key: str) -> bool:
        return any(key.startswith(name[:-1]) if name[-1] == "*" else key == name for name in self.training)

    def __contains__(self, key: str) -> bool:
        return key in self.remaining

    def reject(self, key: str, value: Any = _NO_VALUE, reason: str = "") -> None:
        """Report that `key` is not supported, or not with `value`; a value of None is reported as missing."""
        details = "" if value is _NO_VALUE else " (not given)" if value is None else f"={short_repr(value)}"
        if not self.silent:
            self.diagnostics.unsupported.append(
                self._path_of(key) + details + (f" ({reason})" if reason else "")
            )

    def _path_of(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def peek(self, key: str) -> Any:
        """The value of `key`, which is not taken."""
        return self.remaining.get(key)

    def take(self, key: str, default: Any = None) -> Any:
        """The value of `key`, of any type."""
        return self.remaining.pop(key, default)

    def ignore(self, *keys: str) -> None:
        """Take keys whose values have no effect on inference."""
        for key in keys:
            self.take(key)

    def ignore_rest(self) -> None:
        """Take all remaining keys, whose values have no effect on inference."""
        self.remaining.clear()

    def section(self, key: str) -> "Section":
        """The mapping under `key`; an empty section if there is none."""
        return self._inner(self.take(key), self._path_of(key))

    def read(self, key: str, reader: Callable[["Section"], _Result]) -> _Result:
        """What `reader` returns for the mapping under `key`."""
        with self.section(key) as section:
            return reader(section)

    def read_list(self, key: str, count: int, reader: Callable[["Section"], _Result]) -> list[_Result]:
        """What `reader` returns for each of the `count` mappings in the list under `key`.

        A single mapping in place of the list stands for all of them; another number of mappings is rejected.
        """
        value = self.take(key)
        items = value if isinstance(value, list) else [value] * count
        if len(items) != count:
            self.reject(key, reason=f"{len(items)} entries instead of {count}")
        results = []
        for index, item in enumerate(items):
            with self._inner(item, f"{self.path}.{key}[{index}]") as section:
                results.append(reader(section))
        return results

    def _inner(self, values: Any, path: str) -> "Section":
        return Section(values, path, self.diagnostics, self.training, self.silent)

    def choice(self, *names: str, key: str = "type", default: str | None = None) -> str:
        """The name under `key`, without its package: one of `names`. Another name is rejected.

        It then returns the first of `names`. If `key` names a component's type, the section turns silent.
        """
        value = self.take(key, default)
        name = value.name if isinstance(value, ImportedName) else value
        name = name.rpartition(".")[2] if isinstance(name, str) else name
        if name not in names:
            self.reject(key, value)
            self.silent = self.silent or key in _COMPONENT_KEYS
            return names[0]
        return str(name)

    def expect(self, key: str, *allowed: Any, default: Any = _FIRST_ALLOWED) -> None:
        """Reject `key` unless its value is one of `allowed`.

        `default` is the source framework's own default, by default the first of `allowed`.
        """
        value = self.take(key, allowed[0] if default is _FIRST_ALLOWED else default)
        if not any(_equal(value, other) for other in allowed):
            self.reject(key, value)

    def require(self, key: str, *allowed: Any) -> None:
        """Reject `key` if it is missing or its value is not one of `allowed`.

        For keys without a default, or whose default is not supported.
        """
        if key in self:
            self.expect(key, *allowed)
        else:
            self.reject(key, None)

    def expect_off(self, key: str) -> None:
        """Reject `key` unless its value is false, empty, or a list of such values."""
        value = self.take(key)
        if any(value) if isinstance(value, list) else value:
            self.reject(key, value)

    def flag(self, key: str, default: bool) -> bool:
        """A boolean; another value is rejected, and gives False."""
        value = self.take(key, default)
        if not isinstance(value, bool):
            self.reject(key, value)
        return value is True

    def number(self, key: str, default: float | None = None) -> Any:
        """A number; another or no value is rejected, and gives 0."""
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.reject(key, value)
            return 0
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """An integer from 0 up; another or no value is rejected, and gives 0."""
        value = self.number(key, default)
        if not isinstance(value, int) or value < 0:
            self.reject(key, value)
            return 0
        return value

    def numbers(self, key: str, default: Sequence[float] | None = None) -> list[Any]:
        """A list of numbers; another or no value is rejected, and gives an empty list."""
        if key not in self and default is not None:
            return list(default)
        values = self.nested_numbers(key)
        if any(isinstance(item, list) for item in values):
            self.reject(key, values)
            return []
        return values

    def integers(self, key: str, default: Sequence[int] | None = None) -> list[int]:
        """A list of integers; another or no value is rejected, and gives an empty list."""
        values = self.numbers(key, default)
        if not all(isinstance(item, int) for item in values):
            self.reject(key, values)
            return []
        return values

    def nested_numbers(self, key: str) -> list[Any]:
        """A list of numbers and of such lists; another or no value is rejected, and gives an empty list."""
        value = self.take(key)
        if not isinstance(value, list) or not _is_numeric(value):
            self.reject(key, value)
            return []
        return value


def _is_numeric(value: Any) -> bool:
    """Whether all values in nested lists are numbers."""
    if isinstance(value, list):
        return all(map(_is_numeric, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(value: Any, allowed: Any) -> bool:
    """Equality that distinguishes True from 1, and ignores the package before the name of a type."""
    value, allowed = _normalized(value), _normalized(allowed)
    return bool(value == allowed) and isinstance(value, bool) == isinstance(allowed, bool)


def _normalized(value: Any) -> Any:
    """`value` with types without their package, without `inplace`, and with tuples as lists."""
    if isinstance(value, ImportedName):
        return value.name
    if isinstance(value, Mapping):
        items = {key: _normalized(item) for key, item in value.items() if key != "inplace"}
        return items | ({"type": str(items["type"]).rpartition(".")[2]} if "type" in items else {})
    return [_normalized(item) for item in value] if isinstance(value, list | tuple) else value
