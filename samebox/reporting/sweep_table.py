"""The table of a sweep: a row for each form at each point, for CSV, JSON and the page."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from samebox.comparing.comparison import TIMES, Column, Comparison
from samebox.comparing.measures import main_measure
from samebox.reporting.sweep_points import Point, varied_keys
from samebox.reporting.values import csv_cell


@dataclass(frozen=True)
class SweepRow:
    """One form at one point, or the failure of the point. `number` counts the points from 1.

    `numbers`: the measured values of the comparison by their keys, and `ms`, the sum of all three steps in
    milliseconds per image. `cells`: the same as text, by the keys of the column.
    """

    number: int
    point: Point
    form: str
    runtime: str | None
    status: str
    reason: str | None
    numbers: dict[str, float]
    cells: dict[tuple[str, ...], str]


def sweep_rows(points: Sequence[Point]) -> list[SweepRow]:
    """A row for each form evaluated at each point, and one for the failure of each failed point."""
    return [row for number, point in enumerate(points, 1) for row in _point_rows(number, point)]


def _point_rows(number: int, point: Point) -> Iterator[SweepRow]:
    comparison = point.comparison
    for row in comparison.rows if comparison else ():
        numbers = {key: value for key, value in row.values.items() if not isinstance(value, str)}
        if all(key in numbers for key in TIMES):
            numbers["ms"] = sum(numbers[key] for key in TIMES)
        cells = {column.keys: row.cell(column) for column in _page_columns(comparison)}
        status = "measured" if row.reason is None else "not run"
        yield SweepRow(number, point, row.title, row.runtime, status, row.reason, numbers, cells)
    if not point.measured:
        yield SweepRow(number, point, "", None, point.status, point.reason, {}, {})


def _page_columns(comparison: Comparison | None) -> list[Column]:
    """The columns of a comparison that the page shows."""
    if comparison is None:
        return []
    scores = [f"{kind}/{main_measure(kind)}" for kind in comparison.kinds]
    deltas = [f"{score}_delta{end}" for score in scores for end in ("", "_low")]
    first_keys = {*scores, *deltas, *TIMES, "peak_mb", "artifact_mb"}
    return [column for column in comparison.columns if column.keys[0] in first_keys]


def sweep_columns(points: Sequence[Point]) -> list[Column]:
    """The columns of all points, each once, with the headings of the point with the most kinds of AP."""
    comparisons = [point.comparison for point in points if point.comparison]
    widest_last = sorted(comparisons, key=lambda comparison: len(comparison.kinds))
    columns = {column.keys: column for comparison in widest_last for column in _page_columns(comparison)}
    return sorted(columns.values(), key=lambda column: column.kind is None)


def flat_rows(points: Sequence[Point], rows: Sequence[SweepRow]) -> list[dict[str, Any]]:
    """The rows for CSV and JSON, all with the same keys; None for a missing value."""
    axes = varied_keys(points)
    measured = {key for row in rows for key in row.numbers}
    in_order = [key for point in points if point.comparison for key in point.comparison.keys]
    keys = [key for key in dict.fromkeys([*in_order, "ms"]) if key in measured]
    return [
        {"point": row.number}
        | {axis: row.point.values.get(axis) for axis in axes}
        | {"form": row.form or None, "runtime": row.runtime, "status": row.status}
        | {"reason": row.reason or (row.point.reason if row.point.measured else None)}
        | {key: row.numbers.get(key) for key in keys}
        for row in rows
    ]


def csv_text(flat: Sequence[dict[str, Any]]) -> str:
    """`flat_rows` as comma-separated values; a missing value is empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(flat[0]) if flat else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: csv_cell(value) for key, value in row.items()} for row in flat)
    return buffer.getvalue()
