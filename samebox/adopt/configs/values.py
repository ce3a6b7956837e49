"""Values of a config that are not plain data, and any value as text for a message."""

import reprlib
from dataclasses import dataclass
from typing import Any

from samebox.core.text import one_line


@dataclass(frozen=True)
class UnreadValue:
    """Stands for a value that was not read. A component that needs it is reported as not supported.

    `place` is the file and line, `text` the value's source text, `reason` why it was not read.
    """

    place: str
    text: str
    reason: str = "not plain data"

    def __str__(self) -> str:
        return f"{self.text} ({self.reason}, {self.place})"


@dataclass(frozen=True)
class ImportedName:
    """A name that a config imports. `type=ResNet` is read like `type="ResNet"`."""

    name: str


def short_repr(value: Any) -> str:
    """`value` for a message: one line of at most 80 characters, or 250 for an UnreadValue with its place."""
    return one_line(value, 250) if isinstance(value, UnreadValue) else one_line(reprlib.repr(value), 80)
