"""The table in GitHub's Markdown."""

import re
from collections.abc import Sequence

from samebox.comparing.comparison import Comparison
from samebox.core.text import printable

_MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# What GitHub links without any markup: addresses, and names and numbers behind @ and #
_ADDRESS = re.compile(r"://|\bwww\.", re.I)
_REFERENCE = re.compile(r"(?<!\w)@(?=\w)|@(?=[\w-]+\.\w)|#(?=\d)")
_BLOCK = re.compile(r"^(?=[#+=-])|^(\d+)(?=[.)])")  # a heading, a list, a rule at the start of a line


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
    return table + "\n" + "".join(f"\n- {escaped_line(note)}" for note in comparison.notes) + "\n"


def _repeated(spans: Sequence[tuple[str, int]]) -> list[str]:
    return [part for cell, count in spans for part in (cell, *["not run"] * (count - 1))]


def escaped(text: str) -> str:
    """Text that shows as it is within a line or a cell of a Markdown table, whatever it contains.

    No markup, HTML, mathematics, link or mention of GitHub's Markdown starts in it.
    """
    line = _MARKUP.sub(r"\\\g<0>", printable(text))
    line = re.sub("[&<>]", lambda character: _HTML[character[0]], line)
    line = _ADDRESS.sub(lambda address: address[0].replace("://", ":\\//").replace(".", "\\."), line)
    return _REFERENCE.sub(r"\g<0>&#8203;", line)  # a space without width


def escaped_line(text: str) -> str:
    """`escaped` text that starts a line: no heading, list or rule starts with it either."""
    return _BLOCK.sub(lambda start: f"{start[1]}\\" if start[1] else "\\", escaped(text).strip())


def code(text: str) -> str:
    """Text in a code span of a line or a table's cell."""
    line = printable(text)
    fence = "`" * (_longest_run(line) + 1)
    padding = " " * line.startswith("`"), " " * line.endswith("`")
    return f"{fence}{padding[0]}{line}{padding[1]}{fence}".replace("|", "\\|")


def code_block(lines: Sequence[str], language: str = "") -> str:
    """Lines in a fenced block of code."""
    block = "\n".join(map(printable, lines))
    fence = "`" * max(3, _longest_run(block) + 1)
    return f"{fence}{language}\n{block}\n{fence}"


def _longest_run(text: str) -> int:
    """The length of the longest run of backticks."""
    return max(map(len, re.findall("`+", text)), default=0)
