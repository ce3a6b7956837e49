"""Write the table, the page and the plots of a detector, and fail a form that loses too much."""

from pathlib import Path

from omegaconf import DictConfig

from samebox.core.files import write_json, write_text
from samebox.core.text import print_text
from samebox.reporting import text, values
from samebox.reporting.files import write_table
from samebox.reporting.page import page
from samebox.reporting.plots import plot_data
from stages.compose import main
from stages.sections import gate, section


def run(config: DictConfig) -> None:
    """Write the table as text, Markdown, CSV and JSON, the page, and what DVC shows; then apply the gate."""
    folder = Path(config.paths.compared) / config.detector.name
    part = section(config)
    comparison = part.comparison
    write_table(folder, comparison)
    html = page([part], config.detector.name, config.compare.images, config.compare.score)
    write_text(folder / "index.html", html)
    for runtime, numbers in values.numbers(comparison).items():
        write_json(Path(config.paths.metrics) / config.detector.name / f"{runtime}.json", numbers)
    for plot, points in plot_data(part.forms, comparison).items():
        write_json(Path(config.paths.plots) / config.detector.name / f"{plot}.json", points)
    print_text(text.text(comparison))
    gate(config).check(comparison)


if __name__ == "__main__":
    main("compare", run)
