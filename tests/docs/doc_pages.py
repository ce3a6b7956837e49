"""The README, the pages of docs/ and the others of the repository, and their code blocks."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OTHERS = [
    *(ROOT / "CHANGELOG.md", ROOT / "demo/README.md", ROOT / "conf/machine/README.md"),
    ROOT / "artifacts/README.md",
]


def named(path):
    """A page as tests name it."""
    return str(path.relative_to(ROOT))


def code_blocks(page, language):
    """The blocks of a language in a page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


def prose(page):
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
