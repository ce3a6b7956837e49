"""The input of the report about one detector."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from samebox.coco.dataset import CocoDataset
from samebox.coco.evaluated import EvaluatedForm
from samebox.comparing.comparison import Comparison, Intervals
from samebox.comparing.difference import Difference
from samebox.comparing.gate import Gate


@dataclass(frozen=True)
class Section:
    """One detector's part of the page: its forms, the reference first, and their data set.

    `commands` are shell lines that repeat the run. `differences` are those from the reference by runtime,
    `intervals` those of ΔAP. The notes name losses beyond the limits of `gate` that may be chance.
    """

    forms: Sequence[EvaluatedForm]
    dataset: CocoDataset
    commands: Sequence[str]
    differences: Mapping[str, Difference] = field(default_factory=dict)
    intervals: Intervals = field(default_factory=dict)
    gate: Gate = field(default_factory=Gate)

    @cached_property
    def comparison(self) -> Comparison:
        """The table of the forms."""
        return self.gate.comparison([form.metrics for form in self.forms], self.intervals)

    @property
    def measured(self) -> list[EvaluatedForm]:
        """The forms that were run."""
        return [form for form in self.forms if form.measured]
