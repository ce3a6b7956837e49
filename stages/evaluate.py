"""One form of a detector, scored on its data set."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from samebox.coco.dataset import dataset_of
from samebox.coco.evaluated import EvaluatedForm, write_evaluated
from samebox.core.environment import hardware
from samebox.core.errors import NotHere
from samebox.core.files import read_json
from samebox.core.versions import versions
from samebox.detector import Detector
from samebox.engine.record import engine_report, sidecar
from samebox.evaluation.evaluate import evaluate_form, form_not_run
from samebox.evaluation.invariance import InvarianceLimits
from stages.compose import artifact, main, plain


def run(config: DictConfig) -> None:
    """Evaluate the form `runtime`; where this machine cannot run it, what is left says so."""
    write_evaluated(artifact(config, config.paths.evaluated, config.runtime.name), evaluate(config))


def evaluate(config: DictConfig) -> EvaluatedForm:
    """The form measured, or the reason why it was not."""
    path = artifact(config, config.runtime.folder, config.runtime.file)
    dataset = dataset_of(plain(config.dataset))
    runner = instantiate(config.runtime.runner)
    try:
        return evaluate_form(
            facts(config, path),
            lambda: Detector(runner(config, path).__enter__()),
            dataset,
            config.evaluate.batches,
            config.evaluate.warmup,
            limits(config),
        )
    except NotHere as reason:
        return form_not_run(facts(config, path), f"{built(path)}not run: {reason}")


def limits(config: DictConfig) -> InvarianceLimits:
    """Those of the invariance checks, for the form's precision."""
    usual = plain(config.evaluate.invariance)
    by_precision = usual.pop("of")
    return InvarianceLimits(**usual | by_precision.get(config.runtime.get("precision"), {}))


def facts(config: DictConfig, path: Path) -> dict[str, Any]:
    """What is known of a form before it runs."""
    return {
        "detector": config.detector.name,
        "model": config.detector.model,
        "runtime": config.runtime.name,
        "after": config.runtime.get("after"),
        "precision": config.runtime.get("precision"),
        "title": config.runtime.title,
        "dataset": config.dataset.name,
        "published": plain(config.detector.published),
        "artifact_mb": path.stat().st_size / 1e6 if path.exists() else None,
        "notes": [
            *notes(path.with_name(config.paths.simplify_file)),
            *precision_notes(path.with_name(config.paths.precision_file)),
            *config.runtime.get("notes", ()),
        ],
        "hardware": hardware(),
        "versions": versions(),
    }


def notes(simplify_report: Path) -> list[str]:
    """What the table says of a file that was to be simplified and was not."""
    reason = read_json(simplify_report)["reason"] if simplify_report.exists() else None
    return [f"not simplified, the graph went on as it was: {reason}"] if reason else []


def precision_notes(precision_report: Path) -> list[str]:
    """What the table says of a file in another precision: what was read back from it, and what overflowed."""
    if not precision_report.exists():
        return []
    report = read_json(precision_report)
    found = ", ".join(f"{count} in {name}" for name, count in report["products"].items())
    beyond = [f"{name} overflows it and is left in fp32" for name in report["overflows"]]
    return [f"products with weights: {found}", *beyond]


def built(path: Path) -> str:
    """For an engine, what it was built for; nothing for another form."""
    if not sidecar(path).exists():
        return ""
    report = engine_report(path)
    return f"built for {', '.join(report.targets)} in {report.build_seconds:.1f} s; "


if __name__ == "__main__":
    main("evaluate", run)
