"""The table for a terminal."""

import io
import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from samebox.comparing.comparison import Column, Comparison
from samebox.core.text import printable


def text(comparison: Comparison, width: int = 120) -> str:
    """The table for a terminal, with the notes under it.

    Masks, keypoints and segments have tables of their own, so that each fits the width; so have VOC's mAP and
    the recall, and times and sizes if they do not fit beside the boxes.
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
        console.print(Padding(Text(printable(note)), (0, 0, 0, 2)))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _terminal_table(comparison: Comparison, columns: Sequence[Column]) -> Table:
    """A table whose rows are tables themselves, because rich has no cells that span columns."""
    widths = [_width(comparison, column) for column in columns]
    headings = [(column.heading, 1) for column in columns]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="")
    table.add_column(Text(printable(comparison.detector)), vertical="bottom")
    table.add_column(_terminal_row(headings, widths), vertical="bottom")
    for row in comparison.rows:
        table.add_row(Text(printable(row.title)), _terminal_row(row.spans(columns), widths))
    return table


def _total_width(comparison: Comparison, columns: Sequence[Column]) -> int:
    titles = (comparison.detector, *(row.title for row in comparison.rows))
    return max(map(len, titles)) + sum(2 + _width(comparison, column) for column in columns)


def _terminal_row(cells: Sequence[tuple[str, int]], widths: Sequence[int]) -> Table:
    """One row of cells; each cell spans a number of columns."""
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
    grid.add_row(*(Text(printable(cell)) for cell, _ in cells))
    return grid


def _width(comparison: Comparison, column: Column) -> int:
    """The width of a column: numbers do not wrap, headings and reasons wrap between words."""
    cells = [(row.cell(column), row.number(column)) for row in comparison.rows if row.reason is None]
    prose = [column.heading, *(cell for cell, number in cells if not number)]
    lines = [line for part in prose for line in textwrap.wrap(part, 7, break_long_words=False)]
    return max(map(len, [*lines, *(cell for cell, number in cells if number)]))
