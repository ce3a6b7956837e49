"""Record all forms of a detector as MLflow runs."""

import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from samebox.coco.evaluated import EvaluatedForm
from samebox.comparing.comparison import Comparison
from samebox.core.environment import hardware
from samebox.core.files import read_json, sha256, write_json
from samebox.tracking.detector_runs import track_detector
from stages.compared import read_compared
from stages.compose import artifact, main, plain


def run(config: DictConfig) -> None:
    """Record the runs, nested under one of the detector, and write the id of that."""
    values, compared = dict(flat_config(plain(config))), read_compared(config)
    comparison = Comparison(compared.metrics, compared.intervals)
    run_id = track_detector(
        comparison,
        [with_curves(config, metrics) for metrics in compared.metrics],
        store=f"sqlite:///{config.paths.store}",
        key=content_hash(values, comparison),
        config=values,
        tags=tags(),
        models={"simplified": artifact(config, config.paths.simplified, config.paths.onnx_file)},
    )
    write_json(Path(config.paths.tracked) / f"{config.detector.name}.json", {"run_id": run_id})


def with_curves(config: DictConfig, metrics: dict[str, Any]) -> EvaluatedForm:
    """A form with its curves and without its results, which MLflow does not get."""
    if metrics["status"] != "measured":
        return EvaluatedForm(metrics)
    folder = artifact(config, config.paths.evaluated, metrics["runtime"])
    return EvaluatedForm(metrics, read_json(folder / "curves.json"))


def flat_config(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of a nested config."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from flat_config(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def content_hash(config: Mapping[str, Any], comparison: Comparison) -> str:
    """A hash of all that is recorded: equal for equal figures under an equal config."""
    content = json.dumps([config, comparison.forms, comparison.intervals], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def tags() -> dict[str, str]:
    """The commit, the state of the pipeline and the machine."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    lock = Path("dvc.lock")
    return {
        "git.commit": commit.stdout.strip() or "not a git checkout",
        "dvc.lock": sha256(lock) if lock.exists() else "run without DVC",
        "hardware": json.dumps(hardware(), sort_keys=True),
    }


if __name__ == "__main__":
    main("track", run)
