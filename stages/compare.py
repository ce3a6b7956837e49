"""All forms of a detector side by side; a loss of AP beyond the limit fails the stage."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from samebox.coco.dataset import dataset_of
from samebox.coco.evaluated import EvaluatedForm, read_evaluated
from samebox.comparing.difference import Difference
from samebox.comparing.gate import chance_notes, check_drop, check_invariance
from samebox.comparing.other_canvases import checked_against_reference
from samebox.core.files import existing, read_json, write_json, write_text
from samebox.reporting import markdown, text, values
from samebox.reporting.page import page
from samebox.reporting.plots import plot_data
from samebox.reporting.section import Section
from stages.axes import axis
from stages.compose import artifact, main, plain


def run(config: DictConfig) -> None:
    """Leave the table as text, Markdown, CSV and JSON, the page, and what DVC shows; then judge."""
    folder = Path(config.paths.compared) / config.detector.name
    shown = section(config)
    table = text.text(shown.comparison)
    write_text(folder / "table.txt", table)
    write_text(folder / "table.md", markdown.markdown(shown.comparison))
    write_text(folder / "table.csv", values.csv(shown.comparison))
    write_json(folder / "table.json", values.json(shown.comparison))
    write_text(
        folder / "index.html",
        page([shown], config.detector.name, config.compare.images, config.compare.score),
    )
    for runtime, measured in values.numbers(shown.comparison).items():
        write_json(Path(config.paths.metrics) / config.detector.name / f"{runtime}.json", measured)
    for plot, points in plot_data(shown.forms, shown.comparison).items():
        write_json(Path(config.paths.plots) / config.detector.name / f"{plot}.json", points)
    print(table)
    check_drop(shown.comparison, config.compare.max_ap_drop, config.compare.max_ap_drop_of)
    check_invariance(shown.comparison)


def section(config: DictConfig) -> Section:
    """The forms that were evaluated, PyTorch first, with the data set and how to make them anew.

    With them how they differ, and what a loss beyond the limits may be.
    """
    evaluated, dataset, limits = forms(config), dataset_of(plain(config.dataset)), config.compare
    found = differences(config)
    shown = Section(
        evaluated,
        dataset,
        ["make demo", f"dvc repro compare@{config.detector.name}"],
        {runtime: Difference.from_dict(fields) for runtime, fields in found["detections"].items()},
        found["intervals"],
    )
    shown.comparison.notes += chance_notes(shown.comparison, limits.max_ap_drop, limits.max_ap_drop_of)
    return shown


def differences(config: DictConfig) -> dict[str, Any]:
    """What stages.differences left: `detections` and `intervals`, either by runtime."""
    path = artifact(config, config.paths.differences, config.paths.differences_file)
    return read_json(existing(path, "run stages.differences first"))


def forms(config: DictConfig) -> list[EvaluatedForm]:
    """The evaluated forms of the detector in the order of `runtimes`, the first the reference.

    Their entries of invariance include those against the reference.
    """
    paths = [artifact(config, config.paths.evaluated, name) for name in axis("runtimes")]
    return list(checked_against_reference(map(read_evaluated, paths)))


if __name__ == "__main__":
    main("compare", run)
