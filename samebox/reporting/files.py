"""The files of a table and of a report, each in the formats that people and programs read."""

from collections.abc import Sequence
from pathlib import Path

from samebox.comparing.comparison import Comparison
from samebox.core.files import write_json, write_text
from samebox.media.drawing import SCORE_THRESHOLD
from samebox.reporting import markdown, text, values
from samebox.reporting.page import PICTURES, page, pull_request
from samebox.reporting.section import Section


def write_table(folder: Path, comparison: Comparison) -> None:
    """Write the table as table.txt, table.md, table.csv and table.json."""
    write_text(folder / "table.txt", text.text(comparison))
    write_text(folder / "table.md", markdown.markdown(comparison))
    write_text(folder / "table.csv", values.csv(comparison))
    write_json(folder / "table.json", values.json(comparison))


def write_report(
    folder: Path,
    sections: Sequence[Section],
    title: str = "samebox report",
    images: int = PICTURES,
    threshold: float = SCORE_THRESHOLD,
) -> None:
    """Write the report as index.html, with pictures, and as report.md, without. Arguments as in `page`."""
    write_text(folder / "index.html", page(sections, title, images, threshold))
    write_text(folder / "report.md", pull_request(sections, title))
