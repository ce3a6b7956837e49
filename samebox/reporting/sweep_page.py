"""The page, the CSV and the JSON of a sweep: `sweep.html`, `sweep.csv` and `sweep.json` in its folder."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock
from markupsafe import Markup
from matplotlib.figure import Figure

from samebox.comparing.measures import KINDS, main_measure, measure_name
from samebox.core.files import write_json, write_text
from samebox.reporting.page import templates
from samebox.reporting.plots import COLOURS, INK, plot_label, style_axes, svg
from samebox.reporting.sweep_points import Point, read_points, varied_keys
from samebox.reporting.sweep_table import SweepRow, csv_text, flat_rows, sweep_columns, sweep_rows

_LABELLED = 12  # points of a Pareto front that get their number; the labels of more would overlap
_MARKERS = "osD^vP"


def write_overview(folder: Path) -> None:
    """Write the page, the CSV and the JSON of the points so far. Several processes may do so at once."""
    with FileLock(folder / "overview.lock"):
        points = read_points(folder)
        rows = sweep_rows(points)
        write_text(folder / "sweep.html", sweep_page(folder.name, points, rows))
        flat = flat_rows(points, rows)
        write_text(folder / "sweep.csv", csv_text(flat))
        write_json(folder / "sweep.json", flat)


def sweep_page(name: str, points: Sequence[Point], rows: Sequence[SweepRow]) -> str:
    """The sweep as one HTML page that loads nothing from elsewhere."""
    return (
        templates()
        .get_template("sweep.html")
        .render(
            title=name,
            axes=varied_keys(points),
            columns=sweep_columns(points),
            rows=rows,
            plots=list(_plots(rows)),
            notes=list(sweep_notes(points)),
            failed=sum(not point.measured for point in points),
            points=len(points),
        )
    )


def _plots(rows: Sequence[SweepRow]) -> Iterator[Markup]:
    """AP over latency, a figure for each data set and kind of AP, because only these APs are comparable."""
    panels: dict[tuple[str, str], list[SweepRow]] = defaultdict(list)
    for row in rows:
        for kind in KINDS:
            if {"ms", f"{kind}/{main_measure(kind)}"} <= row.numbers.keys():
                panels[row.point.forms[0]["dataset"], kind].append(row)
    for (dataset, kind), panel in panels.items():
        yield Markup(svg(scatter(panel, kind), f"{dataset} {kind}"))


def scatter(rows: Sequence[SweepRow], kind: str) -> Figure:
    """AP of a kind over latency: a marker for each row that has both, and the Pareto front."""
    measure = f"{kind}/{main_measure(kind)}"
    drawn = [row for row in rows if {measure, "ms"} <= row.numbers.keys()]
    pairs = [(row.numbers["ms"], row.numbers[measure]) for row in drawn]
    figure = Figure(figsize=(8.4, 4.6), layout="constrained")
    axes = figure.subplots()
    for index, form in enumerate(dict.fromkeys(row.form for row in drawn)):
        of_form = [pair for row, pair in zip(drawn, pairs, strict=True) if row.form == form]
        colour = COLOURS[1 + index % (len(COLOURS) - 1)]
        marker = _MARKERS[index % len(_MARKERS)]
        axes.plot(*zip(*of_form, strict=True), marker, color=colour, label=plot_label(form), alpha=0.8)
    front = pareto_front(pairs)
    axes.step(*zip(*(pairs[index] for index in front), strict=True), where="post", color=INK, alpha=0.5,
              linestyle="--", linewidth=1.2, label="Pareto front", zorder=1)  # fmt: skip
    for index in front if len(front) <= _LABELLED else ():
        number = str(drawn[index].number)
        axes.annotate(number, pairs[index], xytext=(5, 5), textcoords="offset points", color=INK)
    axes.set(xlabel="ms/image, all three steps", ylabel=measure_name(kind))
    axes.set_xlim(left=0)
    style_axes(axes)
    axes.legend(loc="best", frameon=False, labelcolor=INK)
    return figure


def pareto_front(pairs: Sequence[tuple[float, float]]) -> list[int]:
    """The indices of the Pareto-optimal (latency, AP) pairs, fastest first.

    A pair is not optimal if another is at least as fast and as good, and better in one of the two. Of equal
    pairs only the first is returned.
    """
    highest, front = float("-inf"), []
    for index in sorted(range(len(pairs)), key=lambda index: (pairs[index][0], -pairs[index][1], index)):
        if pairs[index][1] > highest:
            highest = pairs[index][1]
            front.append(index)
    return front


def sweep_notes(points: Sequence[Point]) -> Iterator[str]:
    """The notes under the table: remarks on points, each once, and on anything that distorts the times."""
    numbers_of: dict[str, list[int]] = defaultdict(list)
    for number, point in enumerate(points, 1):
        remarks = [point.reason] if point.measured and point.reason else []
        for remark in dict.fromkeys([*remarks, *(point.comparison.notes if point.comparison else ())]):
            numbers_of[remark].append(number)
    for remark, numbers in numbers_of.items():
        if len(numbers) == len(points):
            yield remark
        else:
            yield f"point{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}: {remark}"
    if ran_concurrently(points):
        yield (
            "Several points ran at the same time on one machine and shared it, so times are longer than "
            "alone. For reliable times, run the sweep with one job and another `work`."
        )
    machines = {str(form["hardware"]) for point in points for form in point.forms if form["timing"]}
    if len(machines) > 1:
        yield f"Times were measured on {len(machines)} different machines."


def ran_concurrently(points: Sequence[Point]) -> bool:
    """Whether two points ran on one machine at the same time."""
    last_end: dict[str, float] = {}
    for point in sorted(points, key=lambda point: point.began):
        if point.began < last_end.get(point.host, 0):
            return True
        last_end[point.host] = max(point.ended, last_end.get(point.host, 0))
    return False
