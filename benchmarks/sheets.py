"""Tables of figures, and the files in results/ that they are written to."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from samebox.core.environment import hardware
from samebox.core.files import write_text
from samebox.core.versions import versions

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Spread:
    """The median of some values, with the smallest and the largest."""

    median: float
    least: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of one value or more."""
        return cls(float(np.median(values)), min(values), max(values))

    def __format__(self, form: str) -> str:
        return f"{self.median:{form}} ({self.least:{form}}–{self.largest:{form}})"


@dataclass(frozen=True)
class Sheet:
    """A table with a title: the first column names the row, the others are figures."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The table in GitHub's Markdown, under a heading."""
        lines = [self.headings, ["---", *["---:"] * (len(self.headings) - 1)], *self.rows]
        return f"## {self.title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write(name: str, title: str, sheets: Sequence[Sheet], notes: Sequence[str]) -> None:
    """Write the sheets to `results/<name>.md` with the notes, the date, the machine and the versions."""
    machine = hardware()
    gpus = ", ".join(machine["gpus"]) or "none"
    facts = [
        f"Date: {date.today().isoformat()}",
        f"Hardware: {machine['processor']}, {machine['cpus']} CPUs; GPUs: {gpus}",
        f"Versions: {', '.join(f'{name} {version}' for name, version in versions().items())}",
    ]
    tables = "\n".join([f"# {title}\n", *(sheet.markdown() for sheet in sheets)])
    listed = "".join(f"- {line}\n" for line in [*notes, *facts])
    write_text(RESULTS / f"{name}.md", f"{tables}\n## How it was measured\n\n{listed}")
    print(f"written: {RESULTS.name}/{name}.md")
