"""The table that compares a detector's forms: a row for each form, a column for each measure.

A cell without a measurement states the reason; it is never blank, zero or copied from another form.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from samebox.comparing.measures import (
    FURTHER,
    KINDS,
    MEASURES,
    PER_CLASS,
    Value,
    main_measure,
    measure,
    measure_name,
    measures,
    value_or_reason,
)
from samebox.core.errors import SameboxError

TIMES = ("ms_preprocess", "ms_network", "ms_postprocess")

# In the cell of the reference's distance to itself
REFERENCE = "reference"

Intervals = Mapping[str, Mapping[str, tuple[float, float]]]  # by runtime and kind: low and high in points


@dataclass(frozen=True)
class Column:
    """A column as people read it: the values of its `keys`, joined by `between`.

    `text` formats a value. `kind` is the kind of prediction that the column is about, or None.
    """

    heading: str
    keys: tuple[str, ...]
    text: Callable[[float], str]
    kind: str | None = None
    between: str = " / "


@dataclass(frozen=True)
class Row:
    """One form. Each value is a number or the reason why there is none.

    AP, PQ and mIoU are in points from 0 to 100, times in milliseconds per image, sizes in megabytes.
    """

    title: str
    runtime: str
    reason: str | None
    values: dict[str, Value]

    def cell(self, column: Column) -> str:
        """The text of one cell."""
        values = [self.values[key] for key in column.keys]
        reasons = [value for value in values if isinstance(value, str)]
        return reasons[0] if reasons else column.between.join(column.text(float(value)) for value in values)

    def number(self, column: Column) -> bool:
        """Whether the cell was measured."""
        return not any(isinstance(self.values[key], str) for key in column.keys)

    @property
    def deltas(self) -> dict[str, float]:
        """The differences from the reference (0 for the reference) and their intervals, if measured."""
        deltas = {key: value for key, value in self.values.items() if "_delta" in key}
        numbers = {key: 0.0 if value == REFERENCE else value for key, value in deltas.items()}
        return {key: value for key, value in numbers.items() if not isinstance(value, str)}

    def spans(self, columns: Sequence[Column]) -> list[tuple[str, int]]:
        """Each cell and the number of columns it spans: several only for the reason of a form not run."""
        cells = [self.cell(column) for column in columns]
        if self.reason is None:
            return [(cell, 1) for cell in cells]
        return [(cell, len(list(same))) for cell, same in groupby(cells)]


class Comparison:
    """The forms of one detector side by side, from the metrics of each; the first is the reference.

    `intervals` are those of ΔAP at batch 1 by runtime and kind, low and high in points; a form or a kind may
    have none. `kinds` are the kinds of predictions scored in any form, by which forms are compared, and
    `further` the groups of further measures. `columns` and `rows` are the table; `per_class` holds the AP, PQ
    or IoU of each class by kind, class and form; `notes` are printed under the table. Raises SameboxError if
    there are no metrics, or if they belong to more than one detector or data set.
    """

    def __init__(self, metrics: Sequence[dict[str, Any]], intervals: Intervals | None = None) -> None:
        for key in ("detector", "dataset"):
            if len(names := sorted({form[key] for form in metrics})) != 1:
                raise SameboxError(
                    f"a table compares the forms of one {key}, not of {', '.join(names) or 'none'}; "
                    "make one table for each"
                )
        self.forms = list(metrics)
        self.intervals = intervals or {}
        self.detector: str = metrics[0]["detector"]
        self.dataset: str = metrics[0]["dataset"]
        scored = [kind for form in metrics for by_kind in (form["score"] or {}).values() for kind in by_kind]
        self.kinds = [kind for kind in KINDS if kind in scored] or ["bbox"]
        self.further = [kind for kind in FURTHER if kind in scored]
        batches = {int(size) for form in metrics for size in form["score"] or {}} - {1}
        self.batches = sorted(batches)
        self.columns = self._columns()
        self.rows = [self._row(form) for form in metrics]
        of_classes = [*self.kinds, *(kind for kind in self.further if kind in PER_CLASS)]
        self.per_class = {kind: self._per_class(kind) for kind in of_classes}
        self.notes = [*_notes(metrics), *self._published()]

    @property
    def keys(self) -> list[str]:
        """The keys of a row's values, in the order of the columns."""
        return [key for column in self.columns for key in column.keys]

    def heading(self, kind: str, name: str) -> str:
        """The name of a measure, after the kind if several kinds have an AP."""
        return f"{KINDS[kind]} {name}" if len(self.kinds) > 1 and kind not in MEASURES else name

    def _columns(self) -> list[Column]:
        columns = [column for kind in self.kinds for column in self._of_kind(kind)]
        columns += [
            Column(heading, (f"{kind}/{key}",), _points, kind)
            for kind in self.further
            for key, heading in FURTHER[kind].items()
        ]
        columns += [
            Column("ms/image (pre / net / post)", TIMES, _three_digits),
            Column("peak MB", ("peak_mb",), _megabytes),
        ]
        if any(form["device_peak_mb"] is not None for form in self.forms):
            columns += [Column("GPU MB", ("device_peak_mb",), _megabytes)]
        return [*columns, Column("artifact MB", ("artifact_mb",), _megabytes)]

    def _of_kind(self, kind: str) -> Iterator[Column]:
        first = main_measure(kind)
        columns: list[tuple[str, tuple[str, ...], Callable[[float], str]]]
        columns = [(key.replace("_", " "), (key,), _points) for key in measures(kind)]
        columns += [(f"Δ{first}", (f"{first}_delta",), signed)]
        if any(kind in by_kind for by_kind in self.intervals.values()):
            columns += [(f"Δ{first} 95%", (f"{first}_delta_low", f"{first}_delta_high"), signed)]
        columns += [(f"{first} at batch {size}", (f"{first}_batch{size}",), _points) for size in self.batches]
        for heading, keys, text in columns:
            of_kind = tuple(f"{kind}/{key}" for key in keys)
            yield Column(self.heading(kind, heading), of_kind, text, kind, between="…")

    def _row(self, form: dict[str, Any]) -> Row:
        """All values of a form; if it was not run, each value is the reason."""
        reason = None if form["status"] == "measured" else form["reason"]
        size = form["artifact_mb"]
        values: dict[str, Value] = dict.fromkeys(self.keys, reason or "not measured")
        values["artifact_mb"] = (reason or "no file of its own") if size is None else size
        if reason is None:
            for kind in self.kinds:
                values |= self._scores(form, kind)
            for kind in self.further:
                values |= {f"{kind}/{key}": measure(form, kind, 1, key) for key in FURTHER[kind]}
            values |= {key: form["timing"][key.removeprefix("ms_")]["median"] for key in TIMES}
            values["peak_mb"] = form["peak_mb"]
            if "device_peak_mb" in values:
                used = form["device_peak_mb"]
                values["device_peak_mb"] = "no GPU used" if used is None else used
        return Row(form["title"], form["runtime"], reason, values)

    def _scores(self, form: dict[str, Any], kind: str) -> dict[str, Value]:
        first = main_measure(kind)
        values = {f"{kind}/{key}": measure(form, kind, 1, key) for key in measures(kind)}
        for size in self.batches:
            values[f"{kind}/{first}_batch{size}"] = measure(form, kind, size)
        delta = f"{kind}/{first}_delta"
        values[delta] = self._delta(form, values[f"{kind}/{first}"], kind)
        if f"{delta}_low" in self.keys:
            values |= zip(
                (f"{delta}_low", f"{delta}_high"), self._interval(form, values[delta], kind), strict=True
            )
        return values

    def _delta(self, form: dict[str, Any], value: Value, kind: str) -> Value:
        reference = self.forms[0]
        if form is reference:
            return REFERENCE
        if isinstance(value, str):
            return value
        base = measure(reference, kind, 1)
        return f"{reference['title']}: {base}" if isinstance(base, str) else value - base

    def _interval(self, form: dict[str, Any], delta: Value, kind: str) -> tuple[Value, Value]:
        if isinstance(delta, str):
            return delta, delta
        return self.intervals.get(form["runtime"], {}).get(kind, ("no interval", "no interval"))

    def _per_class(self, kind: str) -> dict[str, dict[str, Value]]:
        scores = {form["title"]: ((form["score"] or {}).get("1") or {}).get(kind) for form in self.forms}
        reasons = {form["title"]: form["reason"] or "not scored" for form in self.forms}
        classes = list(
            dict.fromkeys(name for stats in scores.values() if stats for name in stats["per_class"])
        )
        return {
            name: {
                title: reasons[title] if stats is None else value_or_reason(stats["per_class"].get(name))
                for title, stats in scores.items()
            }
            for name in classes
        }

    def _published(self) -> Iterator[str]:
        published = self.forms[0].get("published") or {}
        for kind, value in published.items():
            yield f"published by the detector's authors: {value} {measure_name(kind)}"


def _notes(metrics: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Each note once, after the titles of its forms."""
    titles_by_note: dict[str, list[str]] = {}
    for form in metrics:
        skipped = [f"{entry['file_name']} ({entry['reason']})" for entry in form["skipped"]]
        more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        listed = f"images skipped: {len(skipped)}: {', '.join(skipped[:3])}{more}"
        for note in [*([listed] if skipped else []), *form["notes"]]:
            titles_by_note.setdefault(note, []).append(form["title"])
    return (f"{', '.join(titles)}: {note}" for note, titles in titles_by_note.items())


def _points(value: float) -> str:
    return f"{value:.2f}"


def signed(value: float) -> str:
    """A difference in points, with its sign."""
    return f"{round(value, 2) + 0.0:+.2f}"  # + 0.0 makes -0.0 positive


def _three_digits(value: float) -> str:
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _megabytes(value: float) -> str:
    return f"{value:.1f}"
