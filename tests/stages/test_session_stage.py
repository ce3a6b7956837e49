"""ONNX Runtime's GPU providers through the stages, on a machine that has none."""

import pytest
from tiny_precision import tiny_source

import samebox.runners.onnxruntime
from samebox.coco.evaluated import read_evaluated
from samebox.comparing.comparison import Comparison
from samebox.core.errors import SameboxError
from samebox.engine.providers import CUDA, TENSORRT
from samebox.engine.session import SESSION_DEVICES, session_from_file
from stages import engine, evaluate
from stages.compose import compose
from stages.runtimes import runtimes
from stages.search import choices

NAME = "retinanet_shapes"


def config_of(folder, stage, runtime, *overrides):
    """The stage's config for files in `folder`."""
    source = "fp16" if runtime.endswith("fp16") else "simplified"
    places = [f"runtime.source={folder}/{source}", f"runtime.folder={folder}/{runtime}"]
    kept = [f"paths.{name}={folder}/{name}" for name in ("evaluated", "engine_cache")]
    return compose(stage, [f"runtime={runtime}", *places, *kept, *overrides])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(samebox.runners.onnxruntime, "gpus", list)
    for source in ("simplified", "fp16"):
        (tmp_path / source / NAME).mkdir(parents=True)
        tiny_source(tmp_path / source / NAME / "model.onnx")
    return tmp_path


def test_every_session_has_a_runtime():
    assert set(SESSION_DEVICES) == {name for name in choices("runtime") if name.startswith("onnxruntime_")}
    assert all(runtimes()[name]["flavour"] == name for name in SESSION_DEVICES)


@pytest.mark.parametrize("runtime", ["onnxruntime_cuda", "onnxruntime_tensorrt_fp16"])
def test_the_cells_of_a_form_that_cannot_run_here_hold_the_reason(folder, runtime):
    engine.run(config_of(folder, "engine", runtime))
    evaluate.run(config_of(folder, "evaluate", runtime))
    form = read_evaluated(folder / "evaluated" / NAME / runtime).metrics
    device = TENSORRT if "tensorrt" in runtime else CUDA
    assert (form["status"], form["reason"]) == (
        "not run",
        f"not run: {device}: this machine has no NVIDIA GPU",
    )
    made = folder / runtime / NAME / "model.onnx"
    assert form["artifact_mb"] == made.stat().st_size / 1e6
    row = Comparison([form]).rows[0]
    assert row.values["bbox/AP"] == form["reason"]


def test_the_profile_follows_from_the_resize_rule_and_the_limits_from_the_engine_step(folder):
    engine.run(
        config_of(folder, "engine", "onnxruntime_tensorrt", "engine.workspace_mb=1", "engine.tf32=true")
    )
    options = session_from_file(folder / "onnxruntime_tensorrt" / NAME / "model.onnx", folder).options
    assert options[TENSORRT]["trt_max_workspace_size"] == str(1 << 20)
    assert options[TENSORRT]["trt_profile_max_shapes"] == "images:4x3x32x32,sizes:4x2"
    assert options[CUDA] == {"use_tf32": "1"}


def test_a_form_without_its_session_names_the_list_of_engines(folder):
    with pytest.raises(SameboxError, match="name its runtime among the engines in params"):
        evaluate.run(config_of(folder, "evaluate", "onnxruntime_cuda"))
