"""The result of adopting a source config, and what is reported to the user about it."""

from dataclasses import dataclass, field
from typing import Any

from samebox.core.errors import SameboxError


@dataclass(frozen=True)
class AdoptedConfig:
    """A detector as a source config describes it, in the terms of this project's configs.

    `values` are the values of a detector config of the family `family`. `class_names` are those in the
    source, or None. `remarks` are lines for the user.
    """

    family: str
    values: dict[str, Any]
    num_classes: int
    num_stuff_classes: int = 0
    class_names: tuple[str, ...] | None = None
    remarks: tuple[str, ...] = ()


@dataclass
class Diagnostics:
    """Collected while a source config is read.

    `unsupported` are the keys that are not supported, with their values. `remarks` are lines for the user.
    `class_counts` holds the number of classes of each head.
    """

    unsupported: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    class_counts: set[int] = field(default_factory=set)

    def raise_if_unsupported(self, source: str) -> None:
        """Raise SameboxError with all unsupported keys, if there are any; `source` names the config."""
        if self.unsupported:
            listed = ", ".join(dict.fromkeys(self.unsupported))
            raise SameboxError(f"{source}: not supported: {listed}; nothing is written")
