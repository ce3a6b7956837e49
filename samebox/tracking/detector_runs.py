"""The run of a detector in MLflow, and the nested runs of its forms."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import mlflow.onnx
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from samebox.coco.evaluated import EvaluatedForm
from samebox.comparing.comparison import Comparison, Row
from samebox.core.text import printable
from samebox.reporting import markdown, values
from samebox.reporting.plots import precision_recall
from samebox.tracking.store import KEY_TAG, PARENT_TAG, delete_run, find_runs, open_store
from samebox.tracking.values import flat_metrics, form_tags, param_text

_DETECTOR_TAG = "samebox.detector"


def track_detector(
    comparison: Comparison,
    forms: Sequence[EvaluatedForm],
    *,
    store: str,
    key: str,
    config: Mapping[str, Any],
    tags: Mapping[str, str],
    models: Mapping[str, Path],
) -> str:
    """Record the compared forms as runs nested under a run of their detector. Returns the id of that run.

    The runs go to the place described at `open_store`. `config` is flat: dotted names to values. `models`
    maps a runtime to the ONNX file that is logged as the model of its form. `key` is a hash of all inputs: if
    a finished set of runs has it, nothing is recorded; unfinished runs with it are deleted first. Raises
    SameboxError for errors of MLflow.
    """
    detector = printable(comparison.detector)
    with open_store(store) as (client, experiment):
        earlier = find_runs(client, experiment, {KEY_TAG: key, _DETECTOR_TAG: detector})
        for run in earlier:
            if PARENT_TAG not in run.data.tags and run.info.status == "FINISHED":
                return run.info.run_id
        for run in earlier:
            delete_run(client, run)
        run_tags = {**tags, KEY_TAG: key, _DETECTOR_TAG: detector}
        with mlflow.start_run(experiment_id=experiment, run_name=detector, tags=run_tags) as parent:
            _log_config(config)
            _log_comparison(comparison, forms)
            for row, form in zip(comparison.rows, forms, strict=True):
                _track_form(form, row, experiment, run_tags, config, models.get(row.runtime))
        return parent.info.run_id


def _track_form(
    form: EvaluatedForm,
    row: Row,
    experiment: str,
    tags: Mapping[str, str],
    config: Mapping[str, Any],
    model: Path | None,
) -> None:
    metrics = form.metrics
    run_tags = {**tags, **form_tags(metrics)}
    with mlflow.start_run(
        experiment_id=experiment, run_name=printable(form.title), nested=True, tags=run_tags
    ):
        _log_config(config)
        mlflow.log_metrics(flat_metrics(metrics) | row.deltas)
        mlflow.log_dict(dict(metrics), "metrics.json")
        if model is not None:
            _log_model(model)


def _log_config(config: Mapping[str, Any]) -> None:
    """Log the configuration as parameters, cut to MLflow's limit of length, and whole as config.json."""
    mlflow.log_params({name: param_text(value) for name, value in config.items()})
    mlflow.log_dict(dict(config), "config.json")


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
        signature=_signature(model),
        # stated, because otherwise MLflow runs the model in another process to find them
        pip_requirements=[f"onnx=={onnx.__version__}", "onnxruntime>=1.23"],
    )


def _signature(model: onnx.ModelProto) -> ModelSignature:
    """The inputs and outputs of the model for MLflow; a dynamic axis is -1."""

    def schema(infos: Sequence[onnx.ValueInfoProto]) -> Schema:
        return Schema([_tensor_spec(info) for info in infos])

    return ModelSignature(inputs=schema(model.graph.input), outputs=schema(model.graph.output))


def _tensor_spec(info: onnx.ValueInfoProto) -> TensorSpec:
    tensor = info.type.tensor_type
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim)
    return TensorSpec(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape, info.name)
