"""The runs of a detector in MLflow. No other module imports MLflow."""

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Read when MLflow is imported: no usage reports, no advice on stdout.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

import mlflow
import mlflow.onnx
import onnx
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

from samebox.coco.evaluated import EvaluatedForm
from samebox.comparing.comparison import Comparison, Row
from samebox.core.errors import SameboxError
from samebox.reporting import markdown, values
from samebox.reporting.plots import precision_recall

_EXPERIMENT = "samebox"
_KEY = "samebox.key"
_DETECTOR = "samebox.detector"
_SWEEP = "samebox.sweep"
_POINT = "samebox.point"
_PARENT = "mlflow.parentRunId"  # MLflow's own tag of a nested run
_FILE_STORE = "sqlite:///"


def track(
    comparison: Comparison,
    forms: Sequence[EvaluatedForm],
    *,
    store: str,
    key: str,
    config: Mapping[str, Any],
    tags: Mapping[str, str],
    models: Mapping[str, Path],
) -> str:
    """Record the forms compared as MLflow runs nested under one of their detector, whose id is returned.

    The runs go to `MLFLOW_TRACKING_URI` where that is set, else to `store` (sqlite:///PATH, its artifacts
    beside it). `config` is flat: dotted names to values. `models` maps a runtime to the ONNX file that is
    logged as the model of its form. `key` stands for all inputs: where a finished set of runs bears it
    nothing is recorded anew, and what a killed attempt left of it is deleted first. Raises SameboxError
    where MLflow refuses.
    """
    detector = comparison.detector
    with _opened(store) as (client, experiment):
        earlier = _runs(client, experiment, detector, key)
        for run in earlier:
            if _PARENT not in run.data.tags and run.info.status == "FINISHED":
                return run.info.run_id
        for run in earlier:
            _delete(client, run)
        own = {**tags, _KEY: key, _DETECTOR: detector}
        with mlflow.start_run(experiment_id=experiment, run_name=detector, tags=own) as parent:
            _log_config(config)
            _log_comparison(comparison, forms)
            for row, form in zip(comparison.rows, forms, strict=True):
                _track_form(form, row, experiment, own, config, models.get(row.runtime))
        return parent.info.run_id


def track_sweep(name: str, *, store: str, tags: Mapping[str, str]) -> str:
    """Open the run of the sweep `name`, the one that it had before where there is one, and return its id.

    Goes to the same place as `track` does, as do the other functions on sweeps.
    """
    with _opened(store) as (client, experiment):
        for run in client.search_runs([experiment], f"tags.`{_SWEEP}` = '{name}'"):
            client.update_run(run.info.run_id, status="RUNNING")
            return run.info.run_id
        return client.create_run(experiment, tags={**tags, _SWEEP: name}, run_name=name).info.run_id


@dataclass(frozen=True)
class Child:
    """A form at a point of a sweep: its metrics.json, or the reason why the point failed before it.

    `deltas` are how far it is from the reference, as `samebox.comparing.comparison.Row` has them.
    """

    runtime: str
    metrics: Mapping[str, Any] | None
    reason: str | None = None
    deltas: Mapping[str, float] = field(default_factory=dict)


def track_point(
    sweep: str,
    point: str,
    children: Sequence[Child],
    *,
    store: str,
    key: str,
    title: str,
    params: Mapping[str, Any],
    config: Mapping[str, Any],
    tags: Mapping[str, str],
) -> None:
    """Record the forms at a point as runs nested under the run whose id is `sweep`.

    All have the parameters `params` and `runtime`; a form of which there are no metrics is a run that failed.
    The whole of `config` is their config.json. `point` names the point within the sweep and `key` stands for
    all its inputs: where every form of it was recorded under that key and none failed nothing is recorded
    anew, else what was recorded of the point is deleted first.
    """
    with _opened(store) as (client, experiment):
        earlier = client.search_runs(
            [experiment], f"tags.`{_PARENT}` = '{sweep}' and tags.`{_POINT}` = '{point}'"
        )
        whole = [run for run in earlier if run.info.status == "FINISHED" and run.data.tags[_KEY] == key]
        if len(whole) == len(earlier) == len(children):
            return
        for run in earlier:
            _delete(client, run)
        own = {**tags, _PARENT: sweep, _POINT: point, _KEY: key}
        for child in children:
            name = f"{title} {child.runtime}".lstrip()
            run = client.create_run(experiment, tags={**own, **_told(child)}, run_name=name)
            _log_child(client, run.info.run_id, child, params, config)


def finish_sweep(sweep: str, *, store: str, files: Sequence[Path], points: int, failed: int) -> None:
    """Leave the files and the numbers of points with the run whose id is `sweep`, which is then finished."""
    with _opened(store) as (client, _):
        for path in files:
            client.log_artifact(sweep, str(path))
        client.log_metric(sweep, "points", points)
        client.log_metric(sweep, "points_failed", failed)
        client.set_terminated(sweep)


def flat_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of metrics.json under flat names; what was not measured is left out.

    `bbox/AP` is at batch 1, `bbox/AP_batch4` at batch 4; times are `network_ms_median`, in milliseconds.
    """
    flat = {name: metrics[name] for name in ("images_per_second", "peak_mb", "device_peak_mb", "artifact_mb")}
    for batch, by_kind in (metrics["score"] or {}).items():
        suffix = "" if batch == "1" else f"_batch{batch}"
        for kind, stats in by_kind.items():
            numbers = {name: value for name, value in stats.items() if name != "per_class"}
            flat |= {f"{kind}/{name}{suffix}": value for name, value in numbers.items()}
    for step, times in (metrics["timing"] or {}).items():
        flat |= {f"{step}_ms_{name}": value for name, value in times.items()}
    return {name: value for name, value in flat.items() if value is not None}


def signature(model: onnx.ModelProto) -> ModelSignature:
    """The model's inputs and outputs as MLflow states them; a dynamic axis is -1."""

    def schema(values: Sequence[onnx.ValueInfoProto]) -> Schema:
        return Schema([_tensor_spec(value) for value in values])

    return ModelSignature(inputs=schema(model.graph.input), outputs=schema(model.graph.output))


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim)
    return TensorSpec(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape, value.name)


@contextmanager
def _opened(store: str) -> Iterator[tuple[MlflowClient, str]]:
    """A client of the user's server or of the store, and the id of the experiment that holds all runs.

    MLflow's own setting is put back afterwards: it writes the address that it is given into the
    environment, where a later call would take it for the user's.
    """
    for name in ("mlflow", "alembic"):  # word of every table that a new store gets
        logging.getLogger(name).setLevel(logging.WARNING)
    chosen = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(chosen or store)
    try:
        yield _served() if chosen else _stored(store)
    except MlflowException as error:
        reason = str(error).splitlines()[0]
        raise SameboxError(f"{chosen or store}: MLflow refuses ({reason}); check the tracking URI") from error
    finally:
        mlflow.set_tracking_uri(chosen)


def _served() -> tuple[MlflowClient, str]:
    """A client of the user's server, which decides where artifacts lie, and the experiment's id."""
    client = MlflowClient()
    found = client.get_experiment_by_name(_EXPERIMENT)
    return client, found.experiment_id if found else client.create_experiment(_EXPERIMENT)


def _stored(store: str) -> tuple[MlflowClient, str]:
    """A client of a file, made where there is none yet, and the experiment's id."""
    folder = Path(store.removeprefix(_FILE_STORE)).resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    # the first to open a new file makes its tables, and two at once break each other's
    with FileLock(folder / ".mlflow.lock"):
        client = MlflowClient()
        if found := client.get_experiment_by_name(_EXPERIMENT):
            return client, found.experiment_id
        root = (folder / "mlartifacts").as_uri()
        return client, client.create_experiment(_EXPERIMENT, artifact_location=root)


def _runs(client: MlflowClient, experiment: str, detector: str, key: str) -> list[Run]:
    """All runs of the detector that bear the key, finished or not."""
    return list(
        client.search_runs([experiment], f"tags.`{_KEY}` = '{key}' and tags.`{_DETECTOR}` = '{detector}'")
    )


def _delete(client: MlflowClient, run: Run) -> None:
    run_id, experiment = run.info.run_id, run.info.experiment_id
    for model in client.search_logged_models([experiment], f"source_run_id = '{run_id}'"):
        client.delete_logged_model(model.model_id)
    client.delete_run(run_id)


def _log_child(
    client: MlflowClient, run: str, child: Child, params: Mapping[str, Any], config: Mapping[str, Any]
) -> None:
    """Its status comes last, so that it vouches for the rest."""
    now = int(time.time() * 1000)
    metrics = {} if child.metrics is None else flat_metrics(child.metrics) | dict(child.deltas)
    client.log_batch(
        run,
        metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
        params=[Param(name, _cut(value)) for name, value in {**params, "runtime": child.runtime}.items()],
    )
    client.log_dict(run, dict(config), "config.json")
    if child.metrics is not None:
        client.log_dict(run, dict(child.metrics), "metrics.json")
    client.set_terminated(run, "FAILED" if child.metrics is None else "FINISHED")


def _told(child: Child) -> dict[str, str]:
    """The tags of a form at a point."""
    if child.metrics is None:
        return {"runtime": child.runtime, "status": "failed", "reason": str(child.reason)}
    return _form_tags(child.metrics)


def _form_tags(metrics: Mapping[str, Any]) -> dict[str, str]:
    told = {name: str(metrics[name]) for name in ("runtime", "dataset", "status", "reason") if metrics[name]}
    return told | {f"hardware.{name}": str(value) for name, value in metrics["hardware"].items()}


def _track_form(
    form: EvaluatedForm,
    row: Row,
    experiment: str,
    tags: Mapping[str, str],
    config: Mapping[str, Any],
    model: Path | None,
) -> None:
    metrics = form.metrics
    own = {**tags, **_form_tags(metrics)}
    with mlflow.start_run(experiment_id=experiment, run_name=form.title, nested=True, tags=own):
        _log_config(config)
        mlflow.log_metrics(flat_metrics(metrics) | row.deltas)
        mlflow.log_dict(dict(metrics), "metrics.json")
        if model is not None:
            _log_model(model)


def _log_config(config: Mapping[str, Any]) -> None:
    """The configuration as parameters, cut to the length that MLflow takes, and whole as config.json."""
    mlflow.log_params({name: _cut(value) for name, value in config.items()})
    mlflow.log_dict(dict(config), "config.json")


def _cut(value: Any) -> str:
    return str(value)[:MAX_PARAM_VAL_LENGTH]


def _log_comparison(comparison: Comparison, forms: Sequence[EvaluatedForm]) -> None:
    rows = values.json(comparison)["rows"]
    mlflow.log_table({name: [row[name] for row in rows] for name in rows[0]}, "comparison.json")
    mlflow.log_text(markdown.markdown(comparison), "comparison.md")
    for kind in comparison.kinds:
        if any(kind in form.curves for form in forms):
            mlflow.log_figure(precision_recall(forms, kind), f"precision_recall_{kind}.png")


def _log_model(path: Path) -> None:
    model = onnx.load(path)
    mlflow.onnx.log_model(
        model,
        name="onnx",
        signature=signature(model),
        # told, because MLflow would else run the model in a process of its own to find them
        pip_requirements=[f"onnx=={onnx.__version__}", "onnxruntime>=1.23"],
    )
