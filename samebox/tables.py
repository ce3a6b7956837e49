"""The comparison of a detector's forms: one row a form, one column a measure.

A cell that was not measured says why; it is never blank, zero or copied.
"""

import csv as csv_writer
import io
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from samebox.coco.recall import LIMITS
from samebox.errors import SameboxError

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


def text(comparison: Comparison, width: int = 120) -> str:
    """The table for a terminal, with the notes under it.

    Masks, keypoints and segments stand in tables of their own, so that each fits the width, and so do VOC's
    mAP with the recall, and times and sizes where they do not fit beside the boxes.
    """
    console = Console(file=io.StringIO(), width=width, color_system=None)
    first, *others = ([c for c in comparison.columns if c.kind == kind] for kind in comparison.kinds)
    if comparison.further:
        others.append([column for column in comparison.columns if column.kind in comparison.further])
    common = [column for column in comparison.columns if column.kind is None]
    beside = _total_width(comparison, [*first, *common]) <= width
    parts = [[*first, *common], *others] if beside else [first, *others, common]
    for index, columns in enumerate(parts):
        if index:
            console.print()
        console.print(_terminal_table(comparison, columns))
    for note in comparison.notes:
        console.print(Padding(Text(note), (0, 0, 0, 2)))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _terminal_table(comparison: Comparison, columns: Sequence[Column]) -> Table:
    """Columns of equal width in every row; rich has no cells that span, so each row is a table itself."""
    widths = [_width(comparison, column) for column in columns]
    headings = [(column.heading, 1) for column in columns]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="")
    table.add_column(Text(comparison.detector), vertical="bottom")
    table.add_column(_terminal_row(headings, widths), vertical="bottom")
    for row in comparison.rows:
        table.add_row(Text(row.title), _terminal_row(row.spans(columns), widths))
    return table


def _total_width(comparison: Comparison, columns: Sequence[Column]) -> int:
    titles = (comparison.detector, *(row.title for row in comparison.rows))
    return max(map(len, titles)) + sum(2 + _width(comparison, column) for column in columns)


def _terminal_row(cells: Sequence[tuple[str, int]], widths: Sequence[int]) -> Table:
    """Cells that each span a number of columns of the widths given."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    start = 0
    for _, count in cells:
        spanned = widths[start : start + count]
        grid.add_column(
            width=sum(spanned) + 2 * (count - 1),
            justify="right" if count == 1 else "left",
            vertical="bottom",
        )
        start += count
    grid.add_row(*(Text(cell) for cell, _ in cells))
    return grid


def _width(comparison: Comparison, column: Column) -> int:
    """Numbers stay whole; headings and reasons wrap between words."""
    cells = [(row.cell(column), row.number(column)) for row in comparison.rows if row.reason is None]
    prose = [column.heading, *(cell for cell, number in cells if not number)]
    lines = [line for part in prose for line in textwrap.wrap(part, 7, break_long_words=False)]
    return max(map(len, [*lines, *(cell for cell, number in cells if number)]))


def markdown(comparison: Comparison) -> str:
    """The table in GitHub's Markdown, with the notes under it.

    Markdown has no cells that span: the reason of a form not run stands in the first of its cells, and
    the others say that it was not run.
    """
    lines = [
        [comparison.detector, *(column.heading for column in comparison.columns)],
        ["---", *("---:" for _ in comparison.columns)],
        *([row.title, *_repeated(row.spans(comparison.columns))] for row in comparison.rows),
    ]
    table = "\n".join("| " + " | ".join(escaped(cell) for cell in line) + " |" for line in lines)
    return table + "\n" + "".join(f"\n- {escaped(note)}" for note in comparison.notes) + "\n"


def _repeated(spans: Sequence[tuple[str, int]]) -> list[str]:
    return [part for cell, count in spans for part in (cell, *["not run"] * (count - 1))]


def csv(comparison: Comparison) -> str:
    """The table as comma-separated values, numbers unrounded and each in a column of its own."""
    buffer = io.StringIO()
    writer = csv_writer.writer(buffer, lineterminator="\n")
    writer.writerow(["detector", "form", *comparison.keys])
    for row in comparison.rows:
        writer.writerow([comparison.detector, row.title, *(row.values[key] for key in comparison.keys)])
    return buffer.getvalue()


def json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON takes it: a number, or the reason as text, for every value."""
    return {
        "detector": comparison.detector,
        "dataset": comparison.dataset,
        "rows": [
            {"form": row.title, "runtime": row.runtime, "measured": row.reason is None, **row.values}
            for row in comparison.rows
        ],
        "per_class": comparison.per_class,
        "notes": comparison.notes,
    }


def numbers(comparison: Comparison) -> dict[str, dict[str, float]]:
    """What was measured of each form, by runtime and key, rounded as the table shows it."""
    return {
        row.runtime: {
            key: float(column.shown(value))
            for column in comparison.columns
            for key in column.keys
            if not isinstance(value := row.values[key], str)
        }
        for row in comparison.rows
    }


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


def _range(low: float, high: float) -> str:
    return f"{signed(low)}…{signed(high)}"


def _three_digits(value: float) -> str:
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _megabytes(value: float) -> str:
    return f"{value:.1f}"


def escaped(cell: str) -> str:
    """Text that stays within its cell of a Markdown table."""
    return cell.replace("|", "\\|").replace("\n", " ")
