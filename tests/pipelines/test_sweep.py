"""A sweep with the joblib launcher: the points share their steps, and each is a run in MLflow."""

import os
import subprocess
import sys

import mlflow
import pytest
from demo_forms import ROOT, small_set


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The folder in which two points, of opset 16 and 18, left what they made; and the process."""
    folder = tmp_path_factory.mktemp("sweep")
    small_set(folder / "set")
    command = [
        *(sys.executable, "-m", "pipelines.sweep", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
        *("export.opset=16,18", "export.shape=192x224", "export.batch=1", "runtimes=[torch,onnx]"),
        *("evaluate.batches=[1]", "evaluate.warmup=0"),
        *(f"dataset.images={folder}/set/val", f"dataset.annotations={folder}/set/annotations.json"),
        *(f"work={folder}/work", f"paths.store={folder}/mlflow.db"),
    ]
    own = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return folder, subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)


def made(folder, step):
    return [path for path in (folder / "work" / step).iterdir() if path.is_dir()]


def test_equal_steps_are_done_once(swept):
    folder, process = swept
    assert process.returncode == 0, process.stderr
    assert len(made(folder, "torch")) == 1
    assert len(made(folder, "onnx")) == len(made(folder, "simplified")) == 2
    # PyTorch once for both opsets, and each ONNX file
    assert len(made(folder, "evaluated")) == 3


def test_each_point_is_a_run_with_its_forms_nested(swept):
    folder, _ = swept
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("samebox").experiment_id])
    points = {run.info.run_id: run for run in runs if "mlflow.parentRunId" not in run.data.tags}
    assert {run.data.params["export.opset"] for run in points.values()} == {"16", "18"}
    forms = [run for run in runs if run.info.run_id not in points]
    assert len(forms) == 4
    assert {run.data.tags["mlflow.parentRunId"] for run in forms} == set(points)
    assert len({run.data.metrics["bbox/AP"] for run in forms}) == 1
