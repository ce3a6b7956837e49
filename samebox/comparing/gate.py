"""The gate: it fails a form that loses too much, or whose answers depend on the batch or the padding."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from samebox.comparing.comparison import Comparison, Intervals, signed
from samebox.comparing.measures import main_measure, measure, measure_name
from samebox.core.errors import SameboxError


@dataclass(frozen=True)
class Gate:
    """How much a form may lose against the reference, in points of AP, PQ or mIoU; without limits by default.

    `max_ap_drop_of` holds the limits of single runtimes and precisions; a runtime's own comes first. Every
    kind and every batch size counts, each against the reference at the same batch size. A loss with a known
    interval counts only if the whole interval is beyond the limit.
    """

    max_ap_drop: float = math.inf
    max_ap_drop_of: Mapping[str, float] = field(default_factory=dict)

    def comparison(self, metrics: Sequence[dict[str, Any]], intervals: Intervals | None = None) -> Comparison:
        """The table, with a note for each loss beyond its limit that may be chance.

        Raises what Comparison does.
        """
        table = Comparison(metrics, intervals)
        table.notes += [
            f"{loss.title}: loses {loss.amount}, more than {loss.limit_text}, which may be chance: the "
            "interval reaches within the limit"
            for loss in self._losses(table)
            if not loss.certain
        ]
        return table

    def check(self, comparison: Comparison) -> None:
        """Raise SameboxError if a form loses more than its limit, or fails a check of invariance.

        The error names the loss that exceeds its limit most. Raises SameboxError, too, if the reference was
        not run.
        """
        reference = comparison.forms[0]
        if reference["status"] != "measured":
            raise SameboxError(
                f"{comparison.detector}: {reference['title']} was not run ({reference['reason']}), so no "
                "loss of AP is known; evaluate it first"
            )
        certain = [loss for loss in self._losses(comparison) if loss.certain]
        worst = max(certain, key=lambda loss: loss.excess, default=None)
        if worst is not None:
            raise SameboxError(
                f"{comparison.detector}: {worst.title} loses {worst.amount} against {reference['title']}, "
                f"more than {worst.limit_text}; look at where the forms differ in the report, or raise the "
                "limit"
            )
        _check_invariance(comparison)

    def _losses(self, comparison: Comparison) -> Iterator["_Loss"]:
        """All losses beyond the limits."""
        reference, *others = comparison.forms
        for batch, kind, form in product((1, *comparison.batches), comparison.kinds, others):
            base, value = measure(reference, kind, batch), measure(form, kind, batch)
            if isinstance(base, str) or isinstance(value, str):
                continue
            interval = _interval_at(comparison, form, kind, batch)
            # rounded, so that a loss of exactly the limit passes
            loss = _Loss(form["title"], kind, batch, round(base - value, 6), *self._limit(form), interval)
            if loss.excess > 0:
                yield loss

    def _limit(self, form: Mapping[str, Any]) -> tuple[float, str]:
        """The limit of a form, and its key below `compare`."""
        for name in (form["runtime"], form.get("precision") or "fp32"):
            if name in self.max_ap_drop_of:
                return self.max_ap_drop_of[name], f"max_ap_drop_of.{name}"
        return self.max_ap_drop, "max_ap_drop"


@dataclass(frozen=True)
class _Loss:
    """A form's loss of a kind's main measure at a batch size, and its limit, all in points."""

    title: str
    kind: str
    batch: int
    points: float
    limit: float
    key: str
    interval: tuple[float, float] | None

    @property
    def excess(self) -> float:
        return self.points - self.limit

    @property
    def certain(self) -> bool:
        """Whether there is no interval, or all of it is beyond the limit."""
        return self.interval is None or round(-self.interval[1], 6) > self.limit

    @property
    def amount(self) -> str:
        """The loss with its kind, batch and interval, as in `0.31 box AP at batch 4`."""
        at = "" if self.batch == 1 else f" at batch {self.batch}"
        interval = ""
        if self.interval is not None:
            low, high = map(signed, self.interval)
            interval = f" (Δ{main_measure(self.kind)} {low}…{high} in 95% of resamples)"
        return f"{self.points:.2f} {measure_name(self.kind)}{at}{interval}"

    @property
    def limit_text(self) -> str:
        return f"compare.{self.key} {self.limit:g}"


def _interval_at(
    comparison: Comparison, form: dict[str, Any], kind: str, batch: int
) -> tuple[float, float] | None:
    """The interval at batch 1, shifted to the difference at `batch`.

    Results are kept at batch 1 only. Both batch sizes see the same images, so the spread is the same.
    """
    interval = comparison.intervals.get(form["runtime"], {}).get(kind)
    values = [measure(one, kind, size) for size in (1, batch) for one in (comparison.forms[0], form)]
    if interval is None or any(isinstance(value, str) for value in values):
        return None
    first_base, first, base, value = (float(one) for one in values)
    shift = (value - base) - (first - first_base)
    return interval[0] + shift, interval[1] + shift


def _check_invariance(comparison: Comparison) -> None:
    """Raise SameboxError naming the first check of invariance that a form failed."""
    for form in comparison.forms:
        for check in form.get("invariance") or ():
            if not check["passed"]:
                raise SameboxError(
                    f"{comparison.detector}: {form['title']} fails a check of invariance, {check['check']}: "
                    f"{check['reason']}; see `invariance` in its metrics.json, or leave it out of `runtimes`"
                )
