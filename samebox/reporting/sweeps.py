"""The points of a sweep: a record each, and the page, the CSV and the JSON that lay them side by side.

A sweep's folder holds `points/<id>.json`, one a point, and what is made of them: `sweep.html`, `sweep.csv`
and `sweep.json`. A point is one combination of values; a row of the table is one form at one point.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from samebox.comparing.comparison import TIMES, Column, Comparison, Intervals
from samebox.comparing.measures import KINDS, main_measure, named
from samebox.core.errors import SameboxError
from samebox.core.files import read_json, write_json, write_text
from samebox.reporting.page import templates
from samebox.reporting.plots import COLOURS, INK, svg

_LABELLED = 12  # points of a front that bear their number; more would cover each other
_MARKS = "osD^vP"


@dataclass(frozen=True)
class Point:
    """What became of one combination of values.

    `axes` are the keys that the sweep varies, `overrides` all that was asked for, as KEY=VALUE. `key` stands
    for everything that goes into the point. `status` is "measured" or "failed"; `reason` says why it failed
    or, of one that was measured, which form loses more AP than allowed. `forms` holds the metrics.json of
    each form that was evaluated, the reference first, and `intervals` those of ΔAP, see
    `samebox.comparing.comparison.Comparison`. `began` and `ended` are Unix times on the machine `host`.
    """

    key: str
    axes: list[str]
    overrides: list[str]
    status: str
    reason: str | None
    forms: list[dict[str, Any]]
    intervals: Intervals
    began: float
    ended: float
    host: str

    @property
    def measured(self) -> bool:
        """Whether every form was evaluated, or told why this machine cannot."""
        return self.status == "measured"

    @cached_property
    def values(self) -> dict[str, str]:
        """The values of the keys that vary, as they were written, in the order of the command line."""
        asked = dict(text.lstrip("+").split("=", 1) for text in self.overrides)
        return {axis: asked[axis] for axis in self.axes}

    @cached_property
    def comparison(self) -> Comparison | None:
        """The forms beside each other; None where the point failed before the first."""
        return Comparison(self.forms, self.intervals) if self.forms else None


@dataclass(frozen=True)
class Row:
    """One form at one point, or the failure of the point; `number` counts the points from 1.

    `numbers` holds what was measured: the values of `Comparison` by their keys, and `ms`, all three steps of
    an image together, in milliseconds. `cells` are the same for people, by the keys of their column.
    """

    number: int
    point: Point
    form: str
    runtime: str | None
    status: str
    reason: str | None
    numbers: dict[str, float]
    cells: dict[tuple[str, ...], str]


def record_of(folder: Path, identity: str) -> Path:
    """Where the record of a point of the sweep in `folder` lies."""
    return folder / "points" / f"{identity}.json"


def read_point(path: Path) -> Point:
    """The point whose record lies at `path`. Raises SameboxError for what is no record."""
    try:
        return Point(**read_json(path))
    except TypeError:
        raise SameboxError(f"{path}: not the record of a point; delete it") from None


def read_points(folder: Path) -> list[Point]:
    """The points of the sweep in `folder`, ordered by their values, numbers as numbers."""
    points = [read_point(path) for path in sorted((folder / "points").glob("*.json"))]
    axes = axes_of(points)
    return sorted(points, key=lambda point: [_order(point.values.get(axis, "")) for axis in axes])


def write_point(path: Path, point: Point) -> None:
    """Leave the record at `path`, whole or not at all."""
    write_json(path, asdict(point))


def write_overview(folder: Path) -> None:
    """Leave the page, the CSV and the JSON of the points so far; several processes may do so at once."""
    with FileLock(folder / "overview.lock"):
        points = read_points(folder)
        found = rows(points)
        write_text(folder / "sweep.html", page(folder.name, points, found))
        flat = flat_rows(points, found)
        write_text(folder / "sweep.csv", csv_of(flat))
        write_json(folder / "sweep.json", flat)


def axes_of(points: Sequence[Point]) -> list[str]:
    """The keys that vary, each once, in the order of the command line."""
    return list(dict.fromkeys(axis for point in points for axis in point.values))


def rows(points: Sequence[Point]) -> list[Row]:
    """A row for each form evaluated at each point, and one for what a failed point lacks."""
    return [row for number, point in enumerate(points, 1) for row in _rows_of(number, point)]


def _rows_of(number: int, point: Point) -> Iterator[Row]:
    comparison = point.comparison
    for row in comparison.rows if comparison else ():
        numbers = {key: value for key, value in row.values.items() if not isinstance(value, str)}
        if all(key in numbers for key in TIMES):
            numbers["ms"] = sum(numbers[key] for key in TIMES)
        cells = {column.keys: row.cell(column) for column in _shown(comparison)}
        status = "measured" if row.reason is None else "not run"
        yield Row(number, point, row.title, row.runtime, status, row.reason, numbers, cells)
    if not point.measured:
        yield Row(number, point, "", None, point.status, point.reason, {}, {})


def _shown(comparison: Comparison | None) -> list[Column]:
    """The columns that the page has of a comparison."""
    if comparison is None:
        return []
    scores = [f"{kind}/{main_measure(kind)}" for kind in comparison.kinds]
    deltas = [f"{score}_delta{end}" for score in scores for end in ("", "_low")]
    wanted = {*scores, *deltas, *TIMES, "peak_mb", "artifact_mb"}
    return [column for column in comparison.columns if column.keys[0] in wanted]


def columns(points: Sequence[Point]) -> list[Column]:
    """The columns of all points' comparisons, each once, named as in the one with the most kinds of AP."""
    comparisons = [point.comparison for point in points if point.comparison]
    widest_last = sorted(comparisons, key=lambda comparison: len(comparison.kinds))
    found = {column.keys: column for comparison in widest_last for column in _shown(comparison)}
    return sorted(found.values(), key=lambda column: column.kind is None)


def flat_rows(points: Sequence[Point], found: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as CSV and JSON take them, all with the same keys; None for what there is none of."""
    axes = axes_of(points)
    measured = {key for row in found for key in row.numbers}
    asked = [key for point in points if point.comparison for key in point.comparison.keys]
    keys = [key for key in dict.fromkeys([*asked, "ms"]) if key in measured]
    return [
        {"point": row.number}
        | {axis: row.point.values.get(axis) for axis in axes}
        | {"form": row.form or None, "runtime": row.runtime, "status": row.status}
        | {"reason": row.reason or (row.point.reason if row.point.measured else None)}
        | {key: row.numbers.get(key) for key in keys}
        for row in found
    ]


def csv_of(flat: Sequence[dict[str, Any]]) -> str:
    """`flat_rows` as comma-separated values; nothing between the commas where there is no number."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(flat[0]) if flat else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return buffer.getvalue()


def front(found: Sequence[tuple[float, float]]) -> list[int]:
    """The Pareto front of (latency, AP) pairs: the indices of those that no other beats, fastest first.

    A pair is beaten where another is as fast and as good, and better in one of the two; of equal pairs the
    first stands for all.
    """
    best, kept = float("-inf"), []
    for index in sorted(range(len(found)), key=lambda index: (found[index][0], -found[index][1], index)):
        if found[index][1] > best:
            best = found[index][1]
            kept.append(index)
    return kept


def scatter(found: Sequence[Row], kind: str) -> Figure:
    """AP of a kind against latency: a mark for each row that has both, and the Pareto front through them."""
    measure = f"{kind}/{main_measure(kind)}"
    drawn = [row for row in found if {measure, "ms"} <= row.numbers.keys()]
    pairs = [(row.numbers["ms"], row.numbers[measure]) for row in drawn]
    figure = Figure(figsize=(8.4, 4.6), layout="constrained")
    axes = figure.subplots()
    for index, form in enumerate(dict.fromkeys(row.form for row in drawn)):
        here = [pair for row, pair in zip(drawn, pairs, strict=True) if row.form == form]
        colour = COLOURS[1 + index % (len(COLOURS) - 1)]
        axes.plot(*zip(*here, strict=True), _MARKS[index % len(_MARKS)], color=colour, label=form, alpha=0.8)
    best = front(pairs)
    axes.step(*zip(*(pairs[index] for index in best), strict=True), where="post", color=INK, alpha=0.5,
              linestyle="--", linewidth=1.2, label="Pareto front", zorder=1)  # fmt: skip
    for index in best if len(best) <= _LABELLED else ():
        axes.annotate(str(drawn[index].number), pairs[index], xytext=(5, 5), textcoords="offset points")
    axes.set(xlabel="ms/image, all three steps", ylabel=named(kind))
    axes.set_xlim(left=0)
    _dress(axes)
    return figure


def _dress(axes: Axes) -> None:
    axes.tick_params(colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for text in axes.texts:
        text.set_color(INK)
    axes.grid(color=INK, alpha=0.18, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.legend(loc="best", frameon=False, labelcolor=INK)


def page(name: str, points: Sequence[Point], found: Sequence[Row]) -> str:
    """The sweep as one HTML page, which loads nothing from elsewhere."""
    return (
        templates()
        .get_template("sweep.html")
        .render(
            title=name,
            axes=axes_of(points),
            columns=columns(points),
            rows=found,
            plots=list(_plots(found)),
            notes=list(notes(points)),
            failed=sum(not point.measured for point in points),
            points=len(points),
        )
    )


def _plots(found: Sequence[Row]) -> Iterator[Markup]:
    """AP against latency, a figure for each data set and kind of AP: only within one are APs comparable."""
    panels: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in found:
        for kind in KINDS:
            if {"ms", f"{kind}/{main_measure(kind)}"} <= row.numbers.keys():
                panels[row.point.forms[0]["dataset"], kind].append(row)
    for (dataset, kind), here in panels.items():
        yield Markup(svg(scatter(here, kind), f"{dataset} {kind}"))


def notes(points: Sequence[Point]) -> Iterator[str]:
    """What stands under the table: remarks on points, each once, and what disturbs the times."""
    about: dict[str, list[int]] = defaultdict(list)
    for number, point in enumerate(points, 1):
        remarks = [point.reason] if point.measured and point.reason else []
        for remark in dict.fromkeys([*remarks, *(point.comparison.notes if point.comparison else ())]):
            about[remark].append(number)
    for remark, numbers in about.items():
        if len(numbers) == len(points):
            yield remark
        else:
            yield f"point{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}: {remark}"
    if overlapping(points):
        yield (
            "Several points ran at the same time on one machine, and took it from each other: times are "
            "longer than alone. For times to rely on run the sweep with one job, in another `work`."
        )
    machines = {str(form["hardware"]) for point in points for form in point.forms if form["timing"]}
    if len(machines) > 1:
        yield f"Times were taken on {len(machines)} different machines."


def overlapping(points: Sequence[Point]) -> bool:
    """Whether two points ran on one machine at the same time."""
    last: dict[str, float] = {}
    for point in sorted(points, key=lambda point: point.began):
        if point.began < last.get(point.host, 0):
            return True
        last[point.host] = max(point.ended, last.get(point.host, 0))
    return False


def _order(value: str) -> tuple[int, float, str]:
    try:
        return 0, float(value), ""
    except ValueError:
        return 1, 0, value
