"""All detectors in one table: a row for each measure, a column for each form, and the published figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from samebox.comparing.comparison import Comparison
from samebox.comparing.measures import main_measure, measure, measure_name


@dataclass(frozen=True)
class Cell:
    """The figure of one form, or the reason why there is none.

    `rows` is the number of rows that the cell spans, 0 if the cell above covers it.
    """

    text: str
    measured: bool = True
    rows: int = 1


@dataclass(frozen=True)
class Line:
    """One measure of a detector: a cell for each form of the overview, and the published figure."""

    metric: str
    cells: Sequence[Cell]
    published: str


@dataclass(frozen=True)
class Entry:
    """One detector: the name of the network in papers, the name of its config, and its lines."""

    model: str
    config: str
    lines: Sequence[Line]


@dataclass(frozen=True)
class Overview:
    """`forms` are the titles of all detectors' forms, in order. Figures are in points, at batch 1."""

    forms: Sequence[str]
    entries: Sequence[Entry]


def overview(comparisons: Sequence[Comparison]) -> Overview:
    """The table of all detectors."""
    titles = list(dict.fromkeys(form["title"] for comparison in comparisons for form in comparison.forms))
    return Overview(titles, [_entry(comparison, titles) for comparison in comparisons])


def _entry(comparison: Comparison, titles: Sequence[str]) -> Entry:
    forms = {form["title"]: form for form in comparison.forms}
    published = comparison.forms[0].get("published") or {}
    lines = [
        Line(
            measure_name(kind),
            [_cell(forms.get(title), kind, index, len(comparison.kinds)) for title in titles],
            f"{published[kind]:.2f}" if kind in published else "not published",
        )
        for index, kind in enumerate(comparison.kinds)
    ]
    return Entry(comparison.forms[0]["model"], comparison.detector, lines)


def _cell(form: dict[str, Any] | None, kind: str, index: int, count: int) -> Cell:
    """The cell of the kind at `index` of `count`; the reason of a form not run spans all kinds."""
    if form is None or form["status"] != "measured":
        reason = form["reason"] if form else "not requested"
        return Cell(reason, measured=False, rows=0 if index else count)
    value = measure(form, kind, 1)
    return Cell(value, measured=False) if isinstance(value, str) else Cell(f"{value:.2f}")


def summary(comparison: Comparison) -> str:
    """The table of a detector in one or two sentences."""
    measured = [form for form in comparison.forms if form["status"] == "measured"]
    images = max((form["images"] for form in measured), default=0)
    forms = f"{len(measured)} of {len(comparison.forms)} forms"
    count = f"{forms} measured on {images} images of {comparison.dataset}."
    deltas = {kind: f"{kind}/{main_measure(kind)}_delta" for kind in comparison.kinds}
    losses = [
        (row.values[delta], kind, row.title)
        for kind, delta in deltas.items()
        for row in comparison.rows
        if not isinstance(row.values[delta], str)
    ]
    if not losses:
        return count
    loss, kind, form = min(losses, key=lambda entry: entry[0])
    reference = comparison.forms[0]
    base = measure(reference, kind, 1)
    if round(float(loss), 2) >= 0:
        measures = " or ".join(dict.fromkeys(main_measure(kind) for kind in comparison.kinds))
        value = f"{base:.2f} {measure_name(kind)}"
        return f"{count} No form loses {measures} against {reference['title']} ({value})."
    return (
        f"{count} The largest loss against {reference['title']} ({base:.2f} {measure_name(kind)}) is "
        f"{-float(loss):.2f}, by {form}."
    )
