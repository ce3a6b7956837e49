"""Write one report about all detectors that `dvc repro` evaluated.

Usage: samebox report [KEY=VALUE …]

Examples:
    samebox report
    samebox report compare.images=8 compare.score=0.5
    samebox report paths.report=reports/today
"""

from pathlib import Path

from omegaconf import DictConfig

from samebox.reporting.files import write_report
from stages.axes import axis
from stages.compose import compose, main
from stages.sections import section


def run(config: DictConfig) -> None:
    """Write the page and its Markdown. Each detector is composed on its own, for its data set."""
    sections = [section(compose("compare", [f"detector={name}"])) for name in axis("detectors")]
    folder = Path(config.paths.report)
    write_report(folder, sections, images=config.compare.images, threshold=config.compare.score)


if __name__ == "__main__":
    main("report", run)
