"""The forms of a detector against the reference: computed once, read by the table, the page and MLflow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from samebox.coco.dataset import CocoDataset
from samebox.coco.evaluated import EvaluatedForm
from samebox.comparing.comparison import Intervals
from samebox.comparing.difference import Difference, difference
from samebox.scoring.bootstrap import intervals


@dataclass(frozen=True)
class ComparedForms:
    """The metrics of each form, the reference first, and how the measured forms differ from the reference.

    `metrics` include the checks against the reference. `differences` are those of the detections, by runtime;
    `intervals` those of ΔAP, by runtime and kind.
    """

    metrics: Sequence[dict[str, Any]]
    differences: Mapping[str, Difference]
    intervals: Intervals

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON takes them."""
        detections = {runtime: found.as_dict() for runtime, found in self.differences.items()}
        return {"metrics": list(self.metrics), "detections": detections, "intervals": self.intervals}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "ComparedForms":
        """The inverse of `as_dict`, also after JSON."""
        differences = {name: Difference.from_dict(found) for name, found in fields["detections"].items()}
        return cls(fields["metrics"], differences, fields["intervals"])


def compare_forms(
    forms: Sequence[EvaluatedForm], dataset: CocoDataset, resamples: int, seed: int
) -> ComparedForms:
    """Compare the forms with the first, the reference.

    `forms` come from `checked_against_reference`. `resamples` and `seed` are those of the bootstrap. Raises
    what `ap_intervals` does.
    """
    reference, *others = forms
    differences = {
        form.metrics["runtime"]: difference(reference.results, form.results)
        for form in others
        if reference.measured and form.measured
    }
    return ComparedForms(
        [form.metrics for form in forms], differences, intervals(forms, dataset, resamples, seed)
    )
