"""The comparison of a detector's forms: one row a form, one column a measure.

A cell that was not measured says why; it is never blank, zero or copied.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from samebox.core.errors import SameboxError
from samebox.scoring.recall import LIMITS

KINDS = {
    "bbox": "box",
    "segm": "mask",
    "keypoints": "keypoint",
    "panoptic": "segment",
    "semantics": "class map",
}
# What a kind is measured by, the first of which forms are compared by; of a kind that is not here, AP
MEASURES = {"panoptic": ("PQ", "SQ", "RQ", "PQ_things", "PQ_stuff"), "semantics": ("mIoU",)}
# What else is told of boxes, each with its heading; forms are not compared by it
FURTHER = {
    "voc": {"mAP": "VOC mAP"},
    "voc07": {"mAP": "VOC 2007 mAP"},
    "recall": {
        **{f"AR{limit}": f"AR@{limit}" for limit in LIMITS},
        **{f"AR{size}": f"AR{size}@{LIMITS[-1]}" for size in "sml"},
    },
}
# What is told of each class, where that is no AP
PER_CLASS = {"panoptic": "PQ", "semantics": "IoU", "voc": "VOC AP"}
_AP = ("AP", "AP50", "AP75")

TIMES = ("ms_preprocess", "ms_network", "ms_postprocess")

# What stands for the distance of the reference to itself
REFERENCE = "reference"

Value = float | str
Intervals = Mapping[str, Mapping[str, tuple[float, float]]]


@dataclass(frozen=True)
class Column:
    """A column as people read it: the values of its `keys`, with `between` between them.

    `kind` is the kind of IoU that the column is about, or None.
    """

    heading: str
    keys: tuple[str, ...]
    shown: Callable[[float], str]
    kind: str | None = None
    between: str = " / "


@dataclass(frozen=True)
class Row:
    """One form. Each value is a number or the reason why there is none.

    AP, PQ and mIoU are in points from 0 to 100, times in milliseconds an image, sizes in megabytes.
    """

    title: str
    runtime: str
    reason: str | None
    values: dict[str, Value]

    def cell(self, column: Column) -> str:
        """The text of one cell."""
        values = [self.values[key] for key in column.keys]
        reasons = [value for value in values if isinstance(value, str)]
        return reasons[0] if reasons else column.between.join(column.shown(float(value)) for value in values)

    def number(self, column: Column) -> bool:
        """Whether the cell was measured."""
        return not any(isinstance(self.values[key], str) for key in column.keys)

    @property
    def deltas(self) -> dict[str, float]:
        """How far the form is from the reference, 0 of that itself, and the intervals, as far as known."""
        told = {key: value for key, value in self.values.items() if "_delta" in key}
        known = {key: 0.0 if value == REFERENCE else value for key, value in told.items()}
        return {key: value for key, value in known.items() if not isinstance(value, str)}

    def spans(self, columns: Sequence[Column]) -> list[tuple[str, int]]:
        """Each cell and the number of columns it spans: one, but for the reason of a form not run."""
        cells = [self.cell(column) for column in columns]
        if self.reason is None:
            return [(cell, 1) for cell in cells]
        return [(cell, len(list(same))) for cell, same in groupby(cells)]


class Comparison:
    """The forms of one detector beside each other, from the metrics of each; the first is the reference.

    `intervals` are those of ΔAP at batch 1 by runtime and kind, low and high in points, as far as they are
    known. `kinds` are the kinds of IoU scored in any form, by which they are compared, and `further` what
    else is told; `columns` and `rows` are the table, `per_class` the AP, PQ or IoU of each class by kind,
    class and form, `notes` what stands under the table. Raises SameboxError where the metrics are none, or of
    more than one detector or data set.
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
        """The measures of a row, one value each."""
        return [key for column in self.columns for key in column.keys]

    def heading(self, kind: str, name: str) -> str:
        """A measure's name, with the kind before it where there are several that have an AP."""
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
        told: list[tuple[str, tuple[str, ...], Callable[[float], str]]]
        told = [(key.replace("_", " "), (key,), _points) for key in measures(kind)]
        told += [(f"Δ{first}", (f"{first}_delta",), signed)]
        if any(kind in known for known in self.intervals.values()):
            told += [(f"Δ{first} 95%", (f"{first}_delta_low", f"{first}_delta_high"), signed)]
        told += [(f"{first} at batch {size}", (f"{first}_batch{size}",), _points) for size in self.batches]
        for heading, keys, shown in told:
            of_kind = tuple(f"{kind}/{key}" for key in keys)
            yield Column(self.heading(kind, heading), of_kind, shown, kind, between="…")

    def _row(self, form: dict[str, Any]) -> Row:
        """All values of a form; a form that was not run has its reason in place of each."""
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
            dict.fromkeys(name for found in scores.values() if found for name in found["per_class"])
        )
        return {
            name: {
                title: reasons[title] if found is None else _or_reason(found["per_class"].get(name))
                for title, found in scores.items()
            }
            for name in classes
        }

    def _published(self) -> Iterator[str]:
        published = self.forms[0].get("published") or {}
        for kind, value in published.items():
            yield f"published by the detector's authors: {value} {named(kind)}"


def measures(kind: str) -> tuple[str, ...]:
    """What a kind is measured by, as it is called in metrics.json; by the first, forms are compared."""
    return MEASURES.get(kind, _AP)


def main_measure(kind: str) -> str:
    """What the forms are compared by: AP, PQ or mIoU."""
    return measures(kind)[0]


def named(kind: str) -> str:
    """The main measure of a kind in a sentence: "mask AP", but "PQ"."""
    return main_measure(kind) if kind in MEASURES else f"{KINDS[kind]} {main_measure(kind)}"


def measure(form: dict[str, Any], kind: str, batch: int, key: str | None = None) -> Value:
    """A measure of a form at a batch size in points, the main one by default, or why there is none."""
    if form["status"] != "measured":
        return form["reason"]
    by_kind = form["score"].get(str(batch))
    if by_kind is None:
        return f"not run at batch {batch}"
    if kind not in by_kind:
        return f"gives no {KINDS[kind]}s" if kind in KINDS else "not scored"
    return _or_reason(by_kind[kind][key or main_measure(kind)])


def _notes(metrics: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Each note once, after the forms that it is about."""
    about: dict[str, list[str]] = {}
    for form in metrics:
        skipped = [f"{entry['file_name']} ({entry['reason']})" for entry in form["skipped"]]
        more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        listed = f"images skipped: {len(skipped)}: {', '.join(skipped[:3])}{more}"
        for note in [*([listed] if skipped else []), *form["notes"]]:
            about.setdefault(note, []).append(form["title"])
    return (f"{', '.join(titles)}: {note}" for note, titles in about.items())


def _or_reason(value: float | None) -> Value:
    return "no such objects" if value is None else value


def _points(value: float) -> str:
    return f"{value:.2f}"


def signed(value: float) -> str:
    """A difference in points, with its sign."""
    return f"{round(value, 2) + 0.0:+.2f}"  # + 0.0 makes -0.0 positive


def _three_digits(value: float) -> str:
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _megabytes(value: float) -> str:
    return f"{value:.1f}"
