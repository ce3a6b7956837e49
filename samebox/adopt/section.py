"""Part of a source config, every key of which is either understood or named as what is not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from samebox.adopt.literal import Imported, short
from samebox.core.errors import SameboxError


@dataclass(frozen=True)
class Adopted:
    """What a source config says, in this project's terms.

    `values` are those of a detector's config over the family `family`; `class_names` are the source's, None
    where it has none; `remarks` are lines for the user.
    """

    family: str
    values: dict[str, Any]
    num_classes: int
    num_stuff_classes: int = 0
    class_names: tuple[str, ...] | None = None
    remarks: tuple[str, ...] = ()


@dataclass
class Findings:
    """What was found wanting in a source config, and what the user should know of it."""

    unsupported: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    classes: set[int] = field(default_factory=set)  # the numbers of them that heads have

    def check(self, source: str) -> None:
        """Raise SameboxError that names everything that is not supported."""
        if self.unsupported:
            listed = ", ".join(dict.fromkeys(self.unsupported))
            raise SameboxError(f"{source}: not supported: {listed}; nothing is written")


_FIRST = object()
_NOTHING = object()
_COMPONENTS = ("type", "NAME", "HEAD_NAME", "FEATURE_EXTRACTOR")  # the keys that name a component's type


class Section:
    """A mapping of a source config, each of whose keys is taken once.

    As a context manager it says at its end which keys nobody has taken: `training` are those that concern
    training alone, by name or, ending in "*", by how they begin. `path` leads to the section from the top.
    Of a component that is not supported itself nothing further is said: then it is `silent`, and so are the
    sections in it.
    """

    def __init__(
        self,
        values: Any,
        path: str,
        findings: Findings,
        training: Sequence[str] = (),
        silent: bool = False,
    ) -> None:
        self.path = path
        self.findings = findings
        self.training = training
        self.silent = silent
        self.left = dict(values) if isinstance(values, Mapping) else {}
        if values is not None and not isinstance(values, Mapping) and not silent:
            self.findings.unsupported.append(f"{path}={short(values)}")
            self.silent = True

    def __enter__(self) -> "Section":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            for key, value in self.left.items():
                if value is not None and not self._is_training(str(key)):
                    self.unsupported(str(key))

    def _is_training(self, key: str) -> bool:
        return any(key.startswith(name[:-1]) if name[-1] == "*" else key == name for name in self.training)

    def __contains__(self, key: str) -> bool:
        return key in self.left

    def peek(self, key: str) -> Any:
        """What stands there, without taking it."""
        return self.left.get(key)

    def off(self, key: str) -> None:
        """Take a switch that must be off: false, nothing, or a list of such."""
        value = self.raw(key)
        if any(value) if isinstance(value, list) else value:
            self.unsupported(key, value)

    def unsupported(self, key: str, value: Any = _NOTHING) -> None:
        """Note that `key` is not supported, or not with `value`; None is a value that is missing."""
        where = f"{self.path}.{key}" if self.path else key
        told = "" if value is _NOTHING else " (not given)" if value is None else f"={short(value)}"
        if not self.silent:
            self.findings.unsupported.append(where + told)

    def raw(self, key: str, default: Any = None) -> Any:
        """What stands there, whatever it is."""
        return self.left.pop(key, default)

    def section(self, key: str) -> "Section":
        """The mapping under `key`; an empty one where there is none."""
        path = f"{self.path}.{key}" if self.path else key
        return Section(self.raw(key), path, self.findings, self.training, self.silent)

    def sections(self, key: str, count: int) -> list["Section"]:
        """The mappings under `key`: a list of `count`, or one that stands for as many."""
        held = self.raw(key)
        items = held if isinstance(held, list) else [held] * count
        if len(items) != count:
            self.unsupported(key, f"{len(items)} of them")
        return [
            Section(item, f"{self.path}.{key}[{i}]", self.findings, self.training, self.silent)
            for i, item in enumerate(items)
        ]

    def skip(self, *keys: str) -> None:
        """Take keys whose value changes nothing at inference."""
        for key in keys:
            self.raw(key)

    def kind(self, *known: str, key: str = "type", default: str | None = None) -> str:
        """A component's type without the package before it: one of `known`, else noted, and the first one.

        Then nothing further is said of that component.
        """
        held = self.raw(key, default)
        name = held.name if isinstance(held, Imported) else held
        name = name.rpartition(".")[2] if isinstance(name, str) else name
        if name not in known:
            self.unsupported(key, held)
            self.silent = self.silent or key in _COMPONENTS
            return known[0]
        return str(name)

    def only(self, key: str, *allowed: Any, default: Any = _FIRST) -> None:
        """Take `key`, whose value must be one of `allowed`.

        The source's default is the first of them, unless it is given.
        """
        value = self.raw(key, allowed[0] if default is _FIRST else default)
        if not any(_equal(value, one) for one in allowed):
            self.unsupported(key, value)

    def given(self, key: str, *allowed: Any) -> None:
        """As `only`, for a key without a default, or whose default is not supported."""
        if key in self:
            self.only(key, *allowed)
        else:
            self.unsupported(key, None)

    def number(self, key: str, default: float | None = None) -> Any:
        """A number. Noted where there is none: then the answer is 0, for the mapping to go on."""
        value = self.raw(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.unsupported(key, value)
            return 0
        return value

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number from 0 up, as `number`."""
        value = self.number(key, default)
        if not isinstance(value, int) or value < 0:
            self.unsupported(key, value)
            return 0
        return value

    def nested(self, key: str) -> list[Any]:
        """Lists of lists of numbers, as `number`."""
        value = self.raw(key)
        if not isinstance(value, list) or not _numeric(value):
            self.unsupported(key, value)
            return []
        return value

    def wholes(self, key: str, default: Sequence[int] | None = None) -> list[int]:
        """A list of whole numbers, as `number`."""
        found = self.numbers(key, default)
        if not all(isinstance(item, int) for item in found):
            self.unsupported(key, found)
            return []
        return found

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.raw(key, default)
        if not isinstance(value, bool):
            self.unsupported(key, value)
        return value is True

    def numbers(self, key: str, default: Sequence[float] | None = None) -> list[Any]:
        """A list of numbers, as `number`."""
        if key not in self and default is not None:
            return list(default)
        found = self.nested(key)
        if any(isinstance(item, list) for item in found):
            self.unsupported(key, found)
            return []
        return found


def _numeric(value: Any) -> bool:
    """Whether all leaves of lists are numbers."""
    if isinstance(value, list):
        return all(map(_numeric, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(value: Any, allowed: Any) -> bool:
    """Equality that tells True from 1, and to which a type is the same with its package before it."""
    value, allowed = _bare(value), _bare(allowed)
    return bool(value == allowed) and isinstance(value, bool) == isinstance(allowed, bool)


def _bare(value: Any) -> Any:
    if isinstance(value, Imported):
        return value.name
    if isinstance(value, Mapping):
        held = {key: _bare(item) for key, item in value.items() if key != "inplace"}
        return held | ({"type": str(held["type"]).rpartition(".")[2]} if "type" in held else {})
    return [_bare(item) for item in value] if isinstance(value, list | tuple) else value
