"""A detector's part of the page, from its evaluated forms and what the stage differences wrote."""

from dataclasses import replace

from omegaconf import DictConfig

from samebox.coco.dataset import dataset_of
from samebox.coco.evaluated import read_evaluated
from samebox.comparing.compared_forms import ComparedForms
from samebox.comparing.comparison import Comparison
from samebox.comparing.gate import Gate
from samebox.reporting.section import Section
from stages.compared import read_compared
from stages.compose import artifact, plain


def section(config: DictConfig) -> Section:
    """The detector's part of the page."""
    compared = read_compared(config)
    forms = [
        replace(read_evaluated(artifact(config, config.paths.evaluated, metrics["runtime"])), metrics=metrics)
        for metrics in compared.metrics
    ]
    commands = ["make demo", f"dvc repro compare@{config.detector.name}"]
    dataset = dataset_of(plain(config.dataset))
    return Section(forms, dataset, commands, compared.differences, compared.intervals, gate(config))


def table(config: DictConfig, compared: ComparedForms) -> Comparison:
    """The table of the forms, with notes by the limits in `compare`."""
    return gate(config).comparison(compared.metrics, compared.intervals)


def gate(config: DictConfig) -> Gate:
    """The limits in `compare`."""
    return Gate(config.compare.max_ap_drop, plain(config.compare.max_ap_drop_of))
