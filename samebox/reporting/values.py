"""The table as values: CSV, JSON, and the rounded numbers that DVC shows."""

import csv as csv_writer
import io
import re
from typing import Any

from samebox.comparing.comparison import Comparison
from samebox.core.text import printable

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def csv(comparison: Comparison) -> str:
    """The table as comma-separated values. Numbers are not rounded, and each has its own column."""
    buffer = io.StringIO()
    writer = csv_writer.writer(buffer, lineterminator="\n")
    writer.writerow(["detector", "form", *comparison.keys])
    for row in comparison.rows:
        cells = [comparison.detector, row.title, *(row.values[key] for key in comparison.keys)]
        writer.writerow(map(csv_cell, cells))
    return buffer.getvalue()


def csv_cell(value: Any) -> Any:
    """A value for a CSV file. A text that a spreadsheet would run as a formula starts with an apostrophe."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) and not _NUMBER.fullmatch(text) else text


def json(comparison: Comparison) -> dict[str, Any]:
    """The comparison for JSON: each value is a number, or the reason as text."""
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
    """The measured numbers of each form by runtime and key, rounded as in the table."""
    return {
        row.runtime: {
            key: float(column.text(value))
            for column in comparison.columns
            for key in column.keys
            if not isinstance(value := row.values[key], str)
        }
        for row in comparison.rows
    }
