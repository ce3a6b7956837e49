"""The step in which AP was lost: each form against the form that it was made from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from samebox.comparing.comparison import Comparison
from samebox.comparing.measures import Value, main_measure, measure_name

# Least length of either side of an axis, in points, so that a rounding difference does not look like a loss
_LEAST_AXIS = 0.1

_BAR = 10  # characters of the longest bar in text


@dataclass(frozen=True)
class Step:
    """One form: `delta` against `before`, the form it was made from, and `total` against the reference.

    Both are in points, or the reason why there is no value. `interval` is the 95 % interval of `total`.
    """

    title: str
    before: str
    delta: Value
    total: Value
    interval: tuple[float, float] | None

    @property
    def measured(self) -> bool:
        """Whether `delta` has a value."""
        return not isinstance(self.delta, str)

    @property
    def start(self) -> float:
        """The difference from the reference before this step, in points."""
        return float(self.total) - float(self.delta)

    @property
    def extremes(self) -> tuple[float, ...]:
        """The values that the axis must include."""
        return (self.start, float(self.total), *(self.interval or ())) if self.measured else ()


@dataclass(frozen=True)
class StepChart:
    """The steps of one measure, on an axis from `low` to `high` points that includes 0."""

    measure: str
    steps: Sequence[Step]

    @property
    def low(self) -> float:
        """The left end of the axis."""
        return min((-_LEAST_AXIS, *(value for step in self.steps for value in step.extremes)))

    @property
    def high(self) -> float:
        """The right end of the axis."""
        return max((_LEAST_AXIS, *(value for step in self.steps for value in step.extremes)))

    @property
    def intervals(self) -> bool:
        """Whether any step has an interval."""
        return any(step.interval for step in self.steps)

    def at(self, value: float) -> float:
        """The position of a value on the axis in percent, with a margin of 2 at either end."""
        return round(2 + 96 * (value - self.low) / (self.high - self.low), 2)

    def bar(self, step: Step) -> str:
        """The change of the step as block characters; none for less than half a block."""
        if isinstance(step.delta, str):
            return ""
        return "█" * round(_BAR * abs(step.delta) / max(-self.low, self.high))


def step_charts(comparison: Comparison) -> dict[str, StepChart]:
    """The steps by kind of prediction, in the order of the forms; empty for a single form."""
    return {
        kind: StepChart(measure_name(kind), list(_steps(comparison, kind)))
        for kind in comparison.kinds
        if len(comparison.forms) > 1
    }


def _steps(comparison: Comparison, kind: str) -> Iterator[Step]:
    forms = {form["runtime"]: form for form in comparison.forms}
    key = f"{kind}/{main_measure(kind)}_delta"
    totals = {row.runtime: row.values[key] for row in comparison.rows}
    reference = comparison.forms[0]["runtime"]
    if comparison.rows[0].reason is None:
        totals[reference] = 0.0
    for runtime, form in forms.items():
        if runtime != reference:
            before = _before(form, forms) or reference
            yield Step(
                form["title"],
                forms[before]["title"],
                _difference(totals[runtime], totals[before], forms[before]["title"]),
                totals[runtime],
                comparison.intervals.get(runtime, {}).get(kind),
            )


def _before(form: dict[str, Any], forms: Mapping[str, dict[str, Any]]) -> str | None:
    """The runtime of the nearest measured form among those from which this one was made."""
    name = form["after"]
    while name in forms and forms[name]["status"] != "measured":
        name = forms[name]["after"]
    return name if name in forms else None


def _difference(value: Value, base: Value, title: str) -> Value:
    if isinstance(value, str):
        return value
    return f"{title}: {base}" if isinstance(base, str) else value - base
