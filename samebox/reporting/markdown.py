"""The table in GitHub's Markdown."""

from collections.abc import Sequence

from samebox.comparing.comparison import Comparison


def markdown(comparison: Comparison) -> str:
    """The table in GitHub's Markdown, with the notes under it.

    Markdown has no cells that span columns: of a form that was not run the first cell states the reason, the
    others "not run".
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


def escaped(cell: str) -> str:
    """Text that does not end its cell of a Markdown table."""
    return cell.replace("|", "\\|").replace("\n", " ")
