"""Where AP was lost: each form against the one that it was made of."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from samebox.comparing.comparison import Comparison
from samebox.comparing.measures import Value, main_measure, named

# Points. An axis is at least as long, so that a difference of rounding does not look like a loss
_LEAST_AXIS = 0.1

_BAR = 10  # characters of the longest bar in text


@dataclass(frozen=True)
class Step:
    """One form: `delta` against `before`, which it was made of, and `total` against the reference.

    Both are in points, or the reason why there are none; `interval` is the 95 % interval of `total`.
    """

    title: str
    before: str
    delta: Value
    total: Value
    interval: tuple[float, float] | None

    @property
    def measured(self) -> bool:
        """Whether there is a loss to tell."""
        return not isinstance(self.delta, str)

    @property
    def start(self) -> float:
        """What was lost before this step, in points."""
        return float(self.total) - float(self.delta)

    @property
    def extremes(self) -> tuple[float, ...]:
        """All that an axis has to reach."""
        return (self.start, float(self.total), *(self.interval or ())) if self.measured else ()


@dataclass(frozen=True)
class Ladder:
    """The steps of one measure, on an axis from `low` to `high` points that holds 0."""

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
        """Whether any step has one."""
        return any(step.interval for step in self.steps)

    def at(self, value: float) -> float:
        """The place of a value on the axis, 0 to 100, with a margin at its ends."""
        return round(2 + 96 * (value - self.low) / (self.high - self.low), 2)

    def bar(self, step: Step) -> str:
        """What the step itself changes, as blocks; none where that is less than half a block."""
        if isinstance(step.delta, str):
            return ""
        return "█" * round(_BAR * abs(step.delta) / max(-self.low, self.high))


def ladders(comparison: Comparison) -> dict[str, Ladder]:
    """The steps by kind of IoU, in the order of the forms."""
    return {
        kind: Ladder(named(kind), list(_steps(comparison, kind)))
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
    """The nearest form that was run of those that this one comes from."""
    name = form["after"]
    while name in forms and forms[name]["status"] != "measured":
        name = forms[name]["after"]
    return name if name in forms else None


def _difference(value: Value, base: Value, title: str) -> Value:
    if isinstance(value, str):
        return value
    return f"{title}: {base}" if isinstance(base, str) else value - base
