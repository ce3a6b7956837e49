"""Score one form of a detector on its data set."""

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
    """Write the evaluated form `runtime`, or why this machine cannot run it."""
    write_evaluated(artifact(config, config.paths.evaluated, config.runtime.name), evaluate(config))


def evaluate(config: DictConfig) -> EvaluatedForm:
    """The evaluated form, or the reason why it was not run."""
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
            invariance_limits(config),
        )
    except NotHere as reason:
        return form_not_run(facts(config, path), f"{build_text(path)}not run: {reason}")


def invariance_limits(config: DictConfig) -> InvarianceLimits:
    """The limits of the invariance checks for the form's precision."""
    default = plain(config.evaluate.invariance)
    by_precision = default.pop("of")
    return InvarianceLimits(**default | by_precision.get(config.runtime.get("precision"), {}))


def facts(config: DictConfig, path: Path) -> dict[str, Any]:
    """The entries of metrics.json that are known before the form runs."""
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
            *simplify_notes(path.with_name(config.paths.simplify_file)),
            *precision_notes(path.with_name(config.paths.precision_file)),
            *config.runtime.get("notes", ()),
        ],
        "hardware": hardware(),
        "versions": versions(),
    }


def simplify_notes(simplify_report: Path) -> list[str]:
    """The note on a file that could not be simplified."""
    reason = read_json(simplify_report)["reason"] if simplify_report.exists() else None
    return [f"not simplified, the exported graph is used: {reason}"] if reason else []


def precision_notes(precision_report: Path) -> list[str]:
    """The notes on a file in another precision: its products by type, and the tensors that overflow."""
    if not precision_report.exists():
        return []
    report = read_json(precision_report)
    products = ", ".join(f"{count} in {name}" for name, count in report["products"].items())
    overflows = [f"{name} overflows the type and stays in fp32" for name in report["overflows"]]
    return [f"products with weights: {products}", *overflows]


def build_text(path: Path) -> str:
    """What an engine was built for, and how long it took; empty for a form without an engine."""
    if not sidecar(path).exists():
        return ""
    report = engine_report(path)
    return f"built for {', '.join(report.targets)} in {report.build_seconds:.1f} s; "


if __name__ == "__main__":
    main("evaluate", run)
