import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
from mlflow import MlflowClient
from onnx import TensorProto, helper

from samebox.coco.evaluated import EvaluatedForm
from samebox.comparing.comparison import Comparison
from samebox.core.errors import SameboxError
from samebox.tracking import detector_runs
from samebox.tracking.sweep_runs import open_sweep_run
from samebox.tracking.values import flat_metrics

CURVE = {key: [0.0, 1.0] for key in ("recall", "precision_50", "precision_75", "precision_mean")}


def measured(runtime, title, detector):
    stats = {"AP": 35.5, "AP50": 51.5, "AP75": 43.0, "APs": None, "per_class": {"disc": 41.0}}
    steps = ("preprocess", "network", "postprocess")
    metrics = {
        "detector": detector, "runtime": runtime, "title": title, "dataset": "shapes", "status": "measured",
        "reason": None, "images": 200, "skipped": [], "score": {"1": {"bbox": stats}, "4": {"bbox": stats}},
        "timing": {step: {"median": 1.5, "p95": 2.5} for step in steps}, "images_per_second": 40.0,
        "peak_mb": 321.0, "device_peak_mb": None, "artifact_mb": 4.8, "published": None, "notes": [],
        "hardware": {"cpu": "some CPU", "cores": 2}, "versions": {"torch": "2.9"},
    }  # fmt: skip
    return EvaluatedForm(metrics, {"bbox": CURVE})


def not_run(detector):
    nothing = dict.fromkeys(("score", "timing", "images_per_second", "peak_mb", "artifact_mb"))
    change = {"status": "not run", "reason": "no GPU here"}
    return EvaluatedForm({**measured("engine", "TensorRT-RTX fp32", detector).metrics, **nothing, **change})


def three_forms(detector):
    return [
        measured("pytorch", "PyTorch", detector),
        measured("simplified", "ONNX Runtime, simplified", detector),
        not_run(detector),
    ]


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", 64])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3, "height", 64])
    graph = helper.make_graph([helper.make_node("Relu", ["image"], ["scores"])], "g", [image], [scores])
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One store for all tests, because creating its tables takes seconds. Each test has its own detector."""
    return tmp_path_factory.mktemp("tracking")


@pytest.fixture(scope="module")
def store(folder):
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def compared(forms, intervals=None):
    return Comparison([form.metrics for form in forms], intervals)


def track(store, detector, key="k1", models=None, config=None, intervals=None):
    forms = three_forms(detector)
    return detector_runs.track_detector(
        compared(forms, intervals), forms, store=store, key=key, config=config or {"export.opset": 17},
        tags={"git_commit": "abc", "dvc_lock": "def"}, models=models or {},
    )  # fmt: skip


def runs_of(store, detector):
    """The runs of a detector that are not deleted, the parent first."""
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("samebox").experiment_id
    runs = client.search_runs([experiment], f"tags.`samebox.detector` = '{detector}'")
    return sorted(runs, key=lambda run: ("mlflow.parentRunId" in run.data.tags, run.info.run_name))


@pytest.fixture(scope="module")
def tracked(store, onnx_file):
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    config = {"long": "x" * 7000, **{f"export.k{index}": index for index in range(150)}}
    parent = track(store, "retinanet", models={"simplified": onnx_file}, config=config)
    return parent, runs_of(store, "retinanet")


def test_each_form_is_a_run_nested_under_its_detector(tracked):
    parent, runs = tracked
    assert [run.info.run_name for run in runs] == [
        "retinanet", "ONNX Runtime, simplified", "PyTorch", "TensorRT-RTX fp32",
    ]  # fmt: skip
    assert runs[0].info.run_id == parent
    assert {run.data.tags["mlflow.parentRunId"] for run in runs[1:]} == {parent}
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_parameters_are_cut_to_mlflows_limit_and_whole_in_a_file(tracked):
    _, runs = tracked
    assert all(run.data.params["long"] == "x" * 6000 for run in runs)
    assert all(run.data.params["export.k149"] == "149" for run in runs)
    root = Path(runs[0].info.artifact_uri.removeprefix("file://"))
    assert json.loads((root / "config.json").read_text())["long"] == "x" * 7000


def test_metrics_are_flat_without_values_that_were_not_measured(tracked):
    _, (_, simplified, _, engine) = tracked
    assert simplified.data.metrics["bbox/AP"] == 35.5
    assert simplified.data.metrics["bbox/AP50_batch4"] == 51.5
    assert simplified.data.metrics["network_ms_p95"] == 2.5
    assert simplified.data.metrics["peak_mb"] == 321
    assert not {"bbox/APs", "bbox/per_class", "device_peak_mb"} & set(simplified.data.metrics)
    assert engine.data.metrics == {}


def test_intervals_are_recorded_with_the_differences(store):
    parent = track(store, "intervals", intervals={"simplified": {"bbox": (-0.25, 0.5)}})
    _, simplified, pytorch, engine = runs_of(store, "intervals")
    names = "bbox/AP_delta", "bbox/AP_delta_low", "bbox/AP_delta_high"
    assert [simplified.data.metrics[name] for name in names] == [0, -0.25, 0.5]
    assert [pytorch.data.metrics[name] for name in names] == [0, 0, 0]
    assert engine.data.metrics == {}
    root = Path(MlflowClient(store).get_run(parent).info.artifact_uri.removeprefix("file://"))
    assert "| -0.25…+0.50 |" in (root / "comparison.md").read_text()


def test_masks_are_recorded_beside_boxes(store):
    forms = [measured("pytorch", "PyTorch", "masked"), measured("onnx", "ONNX Runtime", "masked")]
    for form in forms:
        for by_kind in form.metrics["score"].values():
            by_kind["segm"] = {**by_kind["bbox"], "AP": 30.5}
        form.curves["segm"] = CURVE
    detector_runs.track_detector(compared(forms), forms, store=store, key="k1", config={}, tags={}, models={})
    parent, *runs = runs_of(store, "masked")
    for run in runs:
        assert (run.data.metrics["segm/AP"], run.data.metrics["segm/AP_batch4"]) == (30.5, 30.5)
        assert run.data.metrics["bbox/AP"] == 35.5
    root = Path(parent.info.artifact_uri.removeprefix("file://"))
    assert (root / "precision_recall_segm.png").read_bytes().startswith(b"\x89PNG")
    table = json.loads((root / "comparison.json").read_text())
    assert [dict(zip(table["columns"], row, strict=True))["segm/AP_delta"] for row in table["data"]] == [
        "reference", 0,
    ]  # fmt: skip


def test_tags_are_commit_lock_hardware_and_the_reason_of_a_form_not_run(tracked):
    _, (parent, simplified, _, engine) = tracked
    assert all(run.data.tags["git_commit"] == "abc" for run in (parent, simplified, engine))
    assert simplified.data.tags["hardware.cpu"] == "some CPU"
    assert (simplified.data.tags["status"], simplified.data.tags.get("reason")) == ("measured", None)
    assert (engine.data.tags["status"], engine.data.tags["reason"]) == ("not run", "no GPU here")


def test_the_comparison_and_its_plot_are_artifacts_of_the_parent_next_to_the_store(tracked, folder):
    _, (parent, *_) = tracked
    root = Path(parent.info.artifact_uri.removeprefix("file://"))
    assert root.is_relative_to(folder / "mlartifacts")
    assert (root / "precision_recall_bbox.png").read_bytes().startswith(b"\x89PNG")
    assert "| TensorRT-RTX fp32 | no GPU here |" in (root / "comparison.md").read_text()
    table = json.loads((root / "comparison.json").read_text())
    first, *_, last = (dict(zip(table["columns"], row, strict=True)) for row in table["data"])
    assert (first["form"], first["bbox/AP"]) == ("PyTorch", 35.5)
    assert last["bbox/AP"] == "no GPU here"


def test_the_onnx_file_is_the_model_of_its_form(tracked, store):
    _, (_, simplified, pytorch, _) = tracked
    client = MlflowClient(store)
    models = client.search_logged_models([simplified.info.experiment_id])
    (model,) = (model for model in models if model.source_run_id == simplified.info.run_id)
    assert not [model for model in models if model.source_run_id == pytorch.info.run_id]
    folder = Path(model.artifact_location.removeprefix("file://"))
    assert onnx.load(folder / "model.onnx").graph.output[0].name == "scores"
    described = mlflow.models.Model.load(str(folder)).signature
    assert described.inputs.inputs[0].shape == (-1, 3, -1, 64)
    assert described.outputs.inputs[0].type == np.dtype("float32")


def test_tracking_again_records_nothing(store):
    first = track(store, "twice")
    assert track(store, "twice") == first
    assert len(runs_of(store, "twice")) == 4


def test_other_inputs_are_recorded_in_other_runs(store):
    assert track(store, "other", key="k1") != track(store, "other", key="k2")
    assert len(runs_of(store, "other")) == 8


def test_the_runs_of_a_killed_process_are_deleted(store, onnx_file, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(detector_runs, "flat_metrics", killed)
        with pytest.raises(KeyboardInterrupt):
            track(store, "killed")
    left = {run.info.run_id for run in runs_of(store, "killed")}
    assert len(left) == 2
    track(store, "killed", models={"simplified": onnx_file})
    runs = runs_of(store, "killed")
    assert len(runs) == 4
    assert not left & {run.info.run_id for run in runs}


def test_the_models_of_a_deleted_run_are_deleted(store, onnx_file):
    client = MlflowClient(store)
    parent = track(store, "unfinished", models={"simplified": onnx_file})
    client.update_run(parent, status="RUNNING")  # as after a process that was killed at the end
    track(store, "unfinished", models={"simplified": onnx_file})
    runs = {run.info.run_id for run in runs_of(store, "unfinished")}
    experiment = client.get_experiment_by_name("samebox").experiment_id
    models = [model.source_run_id for model in client.search_logged_models([experiment])]
    assert len(runs) == 4
    assert sum(source in runs for source in models) == 1
    deleted = client.search_runs([experiment], "tags.`samebox.detector` = 'unfinished'", run_view_type=2)
    assert not {run.info.run_id for run in deleted} & set(models)


def test_the_users_server_takes_precedence_over_the_store(store, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    track(f"sqlite:///{tmp_path}/unused.db", "served")
    assert len(runs_of(store, "served")) == 4
    assert list(tmp_path.iterdir()) == []


def test_two_processes_may_open_a_new_store(tmp_path):
    store = f"sqlite:///{tmp_path}/new/mlflow.db"
    code = (
        "import sys; from samebox.tracking.store import open_store\n"
        "with open_store(sys.argv[1]) as (_, experiment): print(experiment)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, store], stdout=subprocess.PIPE, text=True) for _ in "ab"
    ]
    first, second = (process.communicate()[0] for process in started)
    assert first == second != ""


def test_the_environment_is_not_modified(store):
    track(store, "environment")
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_an_error_of_mlflow_is_one_line(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    with pytest.raises(SameboxError, match=r"nonsense://nowhere: MLflow refuses \(") as caught:
        track("sqlite:///unused.db", "refused")
    assert "\n" not in str(caught.value)


def test_other_modules_do_not_import_mlflow():
    names = "comparing.comparison", "reporting.plots", "reporting.page", "scoring.average_precision"
    modules = ", ".join(f"samebox.{name}" for name in names)
    code = f"import sys, {modules}; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_metrics_of_keypoints_have_their_kind_as_prefix():
    metrics = measured("onnx", "ONNX Runtime", "points").metrics
    metrics["score"] = {"1": {"keypoints": {"AP": 64.0, "ARm": 60.0, "per_class": {}}}, "4": {}}
    flat = flat_metrics(metrics)
    assert (flat["keypoints/AP"], flat["keypoints/ARm"]) == (64.0, 60.0)


@pytest.mark.parametrize("name", ["o'brien", "both ' and \"", "\x1b[31m\ud800"])
def test_names_may_have_any_character(store, name):
    assert track(store, name) == track(store, name)
    assert open_sweep_run(name, store=store, tags={}) == open_sweep_run(name, store=store, tags={})


def test_the_folder_of_the_store_may_have_an_apostrophe(tmp_path):
    store = f"sqlite:///{tmp_path}/o'brien/mlflow.db"
    assert track(store, "net") == track(store, "net")
    with pytest.raises(SameboxError, match=r"MLflow's store cannot have \? in its path"):
        track(f"sqlite:///{tmp_path}/what?/mlflow.db", "net")
