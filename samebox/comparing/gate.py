"""The gate: a form that loses too much, or whose answers change with the batch, fails the comparison."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from samebox.comparing.comparison import Comparison, signed
from samebox.comparing.measures import main_measure, measure, named
from samebox.core.errors import SameboxError


def check_drop(
    comparison: Comparison, max_ap_drop: float, max_ap_drop_of: Mapping[str, float] | None = None
) -> None:
    """Raise SameboxError where a measured form loses more AP, PQ or mIoU than allowed, in points.

    `max_ap_drop_of` is the limit of the runtimes that have one of their own.
    Every kind and every batch size counts, each against the reference at the same batch size; where an
    interval is known, only if all of it lies beyond the limit. The error names the largest loss.
    """
    reference = comparison.forms[0]
    if reference["status"] != "measured":
        raise SameboxError(
            f"{comparison.detector}: {reference['title']} was not run ({reference['reason']}), so no loss of "
            "AP can be told; evaluate it first"
        )
    certain = [loss for loss in _losses(comparison, max_ap_drop, max_ap_drop_of) if loss.certain]
    worst = max(certain, key=lambda loss: loss.beyond, default=None)
    if worst is not None:
        raise SameboxError(
            f"{comparison.detector}: {worst.title} loses {worst.told} against {reference['title']}, more "
            f"than {worst.limit_told}; look at where the forms differ in the report, or raise the limit"
        )


def chance_notes(
    comparison: Comparison, max_ap_drop: float, max_ap_drop_of: Mapping[str, float] | None = None
) -> list[str]:
    """What to say of losses beyond the limits, as `check_drop` has them, that may be chance."""
    return [
        f"{loss.title}: loses {loss.told}, more than {loss.limit_told}, which may be chance: the interval "
        "reaches within the limit"
        for loss in _losses(comparison, max_ap_drop, max_ap_drop_of)
        if not loss.certain
    ]


@dataclass(frozen=True)
class _Loss:
    """A form's loss of a kind's main measure at a batch size beyond its limit, all in points."""

    title: str
    kind: str
    batch: int
    points: float
    limit: float
    key: str
    interval: tuple[float, float] | None

    @property
    def beyond(self) -> float:
        return self.points - self.limit

    @property
    def certain(self) -> bool:
        """Whether the whole interval of the difference, where there is one, lies beyond the limit."""
        return self.interval is None or round(-self.interval[1], 6) > self.limit

    @property
    def told(self) -> str:
        at = "" if self.batch == 1 else f" at batch {self.batch}"
        delta = f"Δ{main_measure(self.kind)}"
        within = f" ({delta} {_range(*self.interval)} in 95% of resamples)" if self.interval else ""
        return f"{self.points:.2f} {named(self.kind)}{at}{within}"

    @property
    def limit_told(self) -> str:
        return f"compare.{self.key} {self.limit:g}"


def _losses(
    comparison: Comparison, max_ap_drop: float, max_ap_drop_of: Mapping[str, float] | None
) -> Iterator[_Loss]:
    """All losses beyond the limits."""
    reference, *others = comparison.forms
    limits = max_ap_drop_of or {}
    for batch, kind, form in product((1, *comparison.batches), comparison.kinds, others):
        base, value, runtime = measure(reference, kind, batch), measure(form, kind, batch), form["runtime"]
        if isinstance(base, str) or isinstance(value, str):
            continue
        limit = limits.get(runtime, max_ap_drop)
        key = f"max_ap_drop_of.{runtime}" if runtime in limits else "max_ap_drop"
        interval = _interval_at(comparison, form, kind, batch)
        # rounded, so that a loss of exactly the limit is none too many
        loss = _Loss(form["title"], kind, batch, round(base - value, 6), limit, key, interval)
        if loss.beyond > 0:
            yield loss


def _interval_at(
    comparison: Comparison, form: dict[str, Any], kind: str, batch: int
) -> tuple[float, float] | None:
    """The interval at batch 1, moved to the difference at `batch`, whose own images nobody keeps.

    The same images are answered at both, so chance is alike.
    """
    interval = comparison.intervals.get(form["runtime"], {}).get(kind)
    known = [measure(one, kind, size) for size in (1, batch) for one in (comparison.forms[0], form)]
    if interval is None or any(isinstance(value, str) for value in known):
        return None
    first_base, first, base, value = (float(one) for one in known)
    moved = (value - base) - (first - first_base)
    return interval[0] + moved, interval[1] + moved


def check_invariance(comparison: Comparison) -> None:
    """Raise SameboxError naming the first check of invariance that a form did not pass."""
    for form in comparison.forms:
        for check in form.get("invariance") or ():
            if not check["passed"]:
                raise SameboxError(
                    f"{comparison.detector}: {form['title']} fails a check of invariance, {check['check']}: "
                    f"{check['reason']}; see `invariance` in its metrics.json, or leave it out of `runtimes`"
                )


def _range(low: float, high: float) -> str:
    return f"{signed(low)}…{signed(high)}"
