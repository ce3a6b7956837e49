"""A killed stage leaves whole files or none, and succeeds when it is run again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import demo_forms
import pytest
from mlflow import MlflowClient

from samebox.coco.evaluated import EvaluatedForm, read_evaluated, write_evaluated
from stages.axes import axis

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups to kill")

FOLDERS = ("torch", "onnx", "simplified", "evaluated", "differences", "tracked")
# Keys that differ between any two runs
MEASURED = {"timing", "images_per_second", "peak_mb", "seconds"}

# Stage → its overrides, the folders that it reads, the folder that it writes, and when it is killed: after a
# number of seconds, or as soon as a number of files exists
KILLS = {
    "simplify": (
        [],
        ["onnx"],
        "simplified",
        [1.5, ("simplified/*/.model.*", 1), ("simplified/*/model.onnx", 1)],
    ),
    "evaluate": (
        ["runtime=onnx"],
        ["onnx", "set"],
        "evaluated",
        [0.5, 3.0, ("evaluated/*/onnx/.*", 1), ("evaluated/*/onnx/detections.json", 1)],
    ),
}


def command(folder, stage, *overrides):
    """A stage on six images that reads and writes below `folder`."""
    places = [f"paths.{name}={folder}/{name}" for name in FOLDERS]
    dataset = [f"dataset.images={folder}/set/val", f"dataset.annotations={folder}/set/annotations.json"]
    return [
        sys.executable,
        "-m",
        f"stages.{stage}",
        *places,
        f"paths.store={folder}/m.db",
        *dataset,
        *overrides,
    ]


def start(asked, cwd=demo_forms.ROOT):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(asked, cwd=cwd, env=demo_forms.environment(), start_new_session=True, **streams)


def finish(asked, cwd=demo_forms.ROOT):
    process = start(asked, cwd)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said


def kill(asked, folder, moment, cwd=demo_forms.ROOT):
    """Start a process and kill it and its children at `moment`. Returns whether it was still running."""
    process, started = start(asked, cwd), time.monotonic()
    while process.poll() is None and not due(folder, moment, time.monotonic() - started):
        time.sleep(0.005)
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    return running


def due(folder, moment, seconds):
    if isinstance(moment, float):
        return seconds >= moment
    pattern, count = moment
    return len(list(folder.glob(pattern))) >= count


def made(folder):
    """The content of all files with final names, without `MEASURED`."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): content(path) for path in files}


def content(path):
    if path.suffix != ".json":
        return path.read_bytes()
    value = json.loads(path.read_text())  # fails for half a file
    return value if isinstance(value, list) else {key: value[key] for key in set(value) - MEASURED}


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """A small demo in which every stage of `KILLS` has run once without a kill."""
    folder = tmp_path_factory.mktemp("calm")
    demo_forms.small_set(folder / "set")
    for source, target in (
        (demo_forms.CHECKPOINT, folder / "torch/retinanet_shapes/checkpoint.pth"),
        (demo_forms.dynamic(), folder / "onnx/retinanet_shapes/model.onnx"),
    ):
        target.parent.mkdir(parents=True)
        shutil.copy(source, target)
    finish(command(folder, "simplify"))
    finish(command(folder, "evaluate", "runtime=onnx"))
    return folder


@pytest.mark.parametrize("stage", KILLS)
def test_files_with_final_names_are_whole_after_any_kill(calm, tmp_path, stage):
    overrides, reads, makes, moments = KILLS[stage]
    for name in reads:
        shutil.copytree(calm / name, tmp_path / name)
    asked, expected = command(tmp_path, stage, *overrides), made(calm / makes)
    killed = 0
    for moment in moments:
        killed += kill(asked, tmp_path, moment)
        assert made(tmp_path / makes).items() <= expected.items(), f"killed at {moment}"
    assert killed >= 2
    finish(asked)
    assert made(tmp_path / makes) == expected


def test_runs_are_recorded_once_after_any_kill(calm, tmp_path):
    shutil.copytree(calm / "simplified", tmp_path / "simplified")
    form = read_evaluated(calm / "evaluated/retinanet_shapes/onnx")
    for name in axis("runtimes"):
        copy = EvaluatedForm(form.metrics | {"runtime": name, "title": name}, form.curves, form.results)
        write_evaluated(tmp_path / "evaluated/retinanet_shapes" / name, copy)
    shutil.copytree(calm / "set", tmp_path / "set")
    finish(command(tmp_path, "differences"))
    asked = command(tmp_path, "track")
    for count in (1, 3):  # runs that have something logged
        assert kill(asked, tmp_path, ("mlartifacts/*/artifacts", count))
        assert not (tmp_path / "tracked/retinanet_shapes.json").exists()
    finish(asked)
    parent, children, models = recorded(tmp_path / "m.db")
    assert sorted(run.data.tags["runtime"] for run in children) == sorted(axis("runtimes"))
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert len(models) == 1
    assert made(tmp_path / "tracked") == {"retinanet_shapes.json": {"run_id": parent.info.run_id}}


def recorded(store):
    """The run without a parent, all other runs, and the models."""
    client = MlflowClient(f"sqlite:///{store}")
    experiment = client.get_experiment_by_name("samebox").experiment_id
    runs = client.search_runs([experiment])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    return parent, [run for run in runs if run is not parent], client.search_logged_models([experiment])


def test_dvc_continues_a_killed_pipeline(calm, tmp_path):
    project = demo_forms.project(tmp_path / "project")
    shutil.copytree(calm / "onnx", project / "artifacts/onnx")
    subprocess.run([sys.executable, "-m", "stages.resolve"], cwd=project, check=True)
    stage = "evaluate@retinanet_shapes-onnx"
    asked = demo_forms.dvc("repro", "--single-item", stage)
    for moment in (2.0, ("artifacts/evaluated/*/onnx/detections.json", 1)):
        assert kill(asked, project, moment, project)
        assert not (project / "dvc.lock").exists()
    finish(asked, project)
    assert made(project / "artifacts/evaluated") == made(calm / "evaluated")
    status = subprocess.run(
        demo_forms.dvc("status", stage), cwd=project, capture_output=True, text=True, check=True
    )
    assert status.stdout.strip() == "Data and pipelines are up to date."
