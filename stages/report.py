"""Write one report about all detectors that `dvc repro` evaluated.

Usage: samebox report [KEY=VALUE …]

Examples:
    samebox report
    samebox report compare.images=8 compare.score=0.5
    samebox report paths.report=reports/today
"""

from pathlib import Path

from omegaconf import DictConfig

from samebox.core.files import write_text
from samebox.reporting.page import page, pull_request
from stages.axes import axis
from stages.compose import compose, main
from stages.sections import section


def run(config: DictConfig) -> None:
    """Leave the page and its Markdown; each detector is composed for its own data set."""
    sections = [section(compose("compare", [f"detector={name}"])) for name in axis("detectors")]
    html = page(sections, images=config.compare.images, threshold=config.compare.score)
    write_text(Path(config.paths.report) / "index.html", html)
    write_text(Path(config.paths.report) / "report.md", pull_request(sections))


if __name__ == "__main__":
    main("report", run)
