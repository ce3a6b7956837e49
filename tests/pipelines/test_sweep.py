"""Sweeps: with a chain that only pretends, and with the launchers in processes of their own."""

import json
import os
import subprocess
import sys

import mlflow
import pytest
from demo_forms import ROOT, small_set

from pipelines import sweep
from samebox.coco.evaluated import EvaluatedForm
from samebox.comparing.gate import Gate
from samebox.core.errors import SameboxError
from samebox.tracking import sweep_runs
from stages.compose import compose

METRICS = {
    "detector": "retinanet_shapes", "dataset": "shapes", "status": "measured", "reason": None, "notes": [],
    "score": {"1": {"bbox": {"AP": 30.0, "AP50": 40.0, "AP75": 35.0, "per_class": {}}}}, "skipped": [],
    "timing": {step: {"median": 2.0, "p95": 3.0} for step in ("preprocess", "network", "postprocess")},
    "images_per_second": 150.0, "peak_mb": 30.0, "device_peak_mb": None, "artifact_mb": 4.0,
    "hardware": {"cpus": 2}, "published": None, "versions": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One for all: to make its tables takes MLflow seconds."""
    return tmp_path_factory.mktemp("store") / "mlflow.db"


@pytest.fixture(scope="module")
def asked(store):
    """The configuration of a point, all but its opset and its folder."""
    return compose("sweep", ["runtimes=[torch,onnx]", "sweep.axes=[export.opset]", f"paths.store={store}"])


@pytest.fixture
def points(tmp_path, asked, monkeypatch):
    """Runs points of a sweep of two forms, of which opset 13 is a mistake; tells which were not skipped."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    ran = []

    def chain(config, runtimes):
        ran.append(config.export.opset)
        for runtime in runtimes:
            if config.export.opset == 13:
                raise SameboxError("export.opset: 13 is outside")
            if config.export.opset == 14 and runtime == "onnx":
                raise ValueError("first line\nsecond line")
            yield EvaluatedForm(METRICS | {"runtime": runtime, "title": runtime})

    def run(*opsets):
        ran.clear()
        for opset in opsets:
            config = asked.copy()
            config.work, config.sweep.name, config.export.opset = str(tmp_path.parent), tmp_path.name, opset
            sweep.run(config, [f"export.opset={opset}"])
        return list(ran)

    monkeypatch.setattr(sweep, "chain", chain)
    return run


def records(folder):
    found = [json.loads(path.read_text()) for path in folder.glob("points/*.json")]
    return {record["overrides"][0].removeprefix("export.opset="): record for record in found}


def children(store, name):
    """The live runs under the sweep's."""
    client = mlflow.MlflowClient(f"sqlite:///{store}")
    experiment = [client.get_experiment_by_name("samebox").experiment_id]
    (parent,) = client.search_runs(experiment, f"tags.`samebox.sweep` = '{name}'")
    return client.search_runs(experiment, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")


def test_a_failed_point_is_recorded_with_its_reason_and_the_others_go_on(points, tmp_path):
    assert points(16, 13, 14, 18) == [16, 13, 14, 18]
    found = records(tmp_path)
    assert {opset: (one["status"], one["reason"]) for opset, one in found.items()} == {
        "16": ("measured", None),
        "13": ("failed", "export.opset: 13 is outside"),
        "14": ("failed", "ValueError: first line"),
        "18": ("measured", None),
    }
    assert [form["runtime"] for form in found["14"]["forms"]] == ["torch"]
    assert "failed: export.opset: 13 is outside" in (tmp_path / "sweep.html").read_text()


def test_points_that_were_measured_are_not_run_again_and_failed_ones_are(points, tmp_path, store):
    points(16, 13)
    first = {run.info.run_id for run in children(store, tmp_path.name) if run.info.status == "FINISHED"}
    assert points(16, 13, 18) == [13, 18]
    runs = children(store, tmp_path.name)
    assert len(runs) == 6
    assert first < {run.info.run_id for run in runs}


def test_a_point_is_run_again_for_other_versions(points, monkeypatch):
    points(16)
    assert points(16) == []
    monkeypatch.setattr(sweep, "versions", lambda: {"torch": "next"})
    assert points(16) == [16]


def test_all_children_have_the_same_parameters_and_those_measured_the_same_metrics(points, tmp_path, store):
    points(16, 13, 14)
    runs = children(store, tmp_path.name)
    assert len(runs) == 6
    assert len({frozenset(run.data.params) for run in runs}) == 1
    assert {"export.opset", "export.lowering", "precision.count", "detector", "runtime"} <= set(
        runs[0].data.params
    )
    told = {(run.data.params["export.opset"], run.data.params["runtime"]): run for run in runs}
    status = {one: run.info.status for one, run in told.items()}
    assert status == {
        ("16", "torch"): "FINISHED", ("16", "onnx"): "FINISHED", ("14", "torch"): "FINISHED",
        ("14", "onnx"): "FAILED", ("13", "torch"): "FAILED", ("13", "onnx"): "FAILED",
    }  # fmt: skip
    assert told["13", "onnx"].data.tags["reason"] == "export.opset: 13 is outside"
    assert told["13", "onnx"].data.tags["status"] == "failed"
    measured = [run for run in runs if run.info.status == "FINISHED"]
    assert len({frozenset(run.data.metrics) for run in measured}) == 1
    assert measured[0].data.metrics["bbox/AP"] == 30.0


@pytest.mark.parametrize("place", ["sweep.write_point", "sweep_runs._log_form"])
def test_a_point_killed_while_it_is_recorded_is_recorded_once(points, tmp_path, store, monkeypatch, place):
    def killed(*_):
        raise KeyboardInterrupt

    module, name = place.split(".")
    with monkeypatch.context() as patch:
        patch.setattr({"sweep": sweep, "sweep_runs": sweep_runs}[module], name, killed)
        with pytest.raises(KeyboardInterrupt):
            points(16)
    assert points(16) == [16]
    runs = children(store, tmp_path.name)
    assert sorted(run.data.params["runtime"] for run in runs) == ["onnx", "torch"]
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_point_that_loses_too_much_is_measured_and_says_so(points, tmp_path, monkeypatch):
    def lost(*_):
        raise SameboxError("onnx loses 1.00")

    monkeypatch.setattr(Gate, "check", lost)
    points(16)
    assert [(one["status"], one["reason"]) for one in records(tmp_path).values()] == [
        ("measured", "onnx loses 1.00")
    ]


def test_the_same_command_has_the_same_name():
    asked = ["export.opset=16,18", "evaluate.batches=[1]", "runtimes=[torch,fp16],[torch,int8]"]
    axes, name = sweep.sweep_overrides(asked)
    assert axes == "sweep.axes=[export.opset,runtimes]"
    assert name.startswith("sweep.name=opset-runtimes-")
    assert sweep.sweep_overrides(asked[::-1])[1].rpartition("-")[2] == name.rpartition("-")[2]
    assert sweep.sweep_overrides([*asked, "work=elsewhere"])[1] == name
    assert sweep.sweep_overrides([*asked[1:], "export.opset=16"])[1] != name
    assert sweep.sweep_overrides([*asked, "sweep.name=mine"]) == [axes]


def test_a_name_that_is_no_folders_is_a_mistake():
    with pytest.raises(SameboxError, match=r"sweep\.name: '\.\./up'"):
        sweep.sweep_config(["sweep.name=../up"])


def process(folder, *asked):
    """A sweep over two images in a process of its own."""
    if not (folder / "set").exists():
        small_set(folder / "set", 2)
    command = [
        *(sys.executable, "-m", "pipelines.sweep", "-m", "export.shape=192x224", "export.batch=1"),
        *("evaluate.batches=[1]", "evaluate.warmup=0", "sweep.name=tried"),
        *(f"dataset.images={folder}/set/val", f"dataset.annotations={folder}/set/annotations.json"),
        *(f"work={folder}/work", f"paths.store={folder}/mlflow.db", *asked),
    ]
    own = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)


def made(folder, step):
    return [path for path in (folder / "work" / step).iterdir() if path.is_dir()]


def test_joblib_shares_equal_steps(tmp_path):
    jobs = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    done = process(tmp_path, *jobs, "export.opset=16,18", "runtimes=[torch,onnx]")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(made(tmp_path, "torch")) == 1
    assert len(made(tmp_path, "onnx")) == len(made(tmp_path, "simplified")) == 2
    # PyTorch once for both opsets, and each ONNX file
    assert len(made(tmp_path, "evaluated")) == 3
    # both were exporting at once
    assert "ran at the same time" in (tmp_path / "work/tried/sweep.html").read_text()
    runs = children(tmp_path / "mlflow.db", "tried")
    assert len(runs) == 4
    assert len({run.data.metrics["bbox/AP"] for run in runs}) == 1


def ray_starts():
    alone = [sys.executable, "-c", "import ray; ray.init(num_cpus=1, include_dashboard=False)"]
    try:
        return subprocess.run(alone, capture_output=True, timeout=120, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@pytest.mark.parametrize(
    ("launcher", "package"), [("submitit_local", "submitit_launcher"), ("ray", "ray_launcher")]
)
def test_a_launcher_of_an_extra_runs_all_points_and_sums_up(tmp_path, launcher, package):
    pytest.importorskip(f"hydra_plugins.hydra_{package}", reason=f"hydra/launcher={launcher} is an extra")
    if launcher == "ray" and not ray_starts():
        pytest.skip("Ray by itself starts no cluster here: it takes ports and shared memory")
    done = process(tmp_path, f"hydra/launcher={launcher}", "runtimes=[torch],[none]")
    assert done.returncode == 1
    page = tmp_path / "work/tried/sweep.html"
    assert done.stderr.splitlines()[-1] == f"error: 1 of 2 points failed; {page} states the reasons"
    failed, measured = json.loads(page.with_suffix(".json").read_text())
    assert measured["runtimes"] == "[torch]"
    assert measured["bbox/AP"] > 0
    assert failed["reason"].startswith("runtimes: ['none']: name one or more of")
    assert [run.info.status for run in children(tmp_path / "mlflow.db", "tried")].count("FAILED") == 1
