import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tiny_onnx import tiny_file
from tiny_precision import pictures, tiny_source

from benchmarks import gpu, sheets
from benchmarks.describe import description, descriptions
from benchmarks.gpu import (
    CPU_FORMS,
    GPU_FORMS,
    Case,
    Figures,
    Form,
    attempt,
    attempt_in_own_process,
    figures,
    make_files,
    measured,
)
from benchmarks.networks import described
from samebox.core.errors import NotHere, SameboxError
from samebox.core.gpu import Gpu

BENCHMARKS = Path(gpu.__file__).parent
H200 = Gpu("NVIDIA H200", (9, 0), 143771)
OUTPUTS = {
    "boxes": np.array([[[0, 0, 20, 20], [30, 0, 50, 20], [0, 30, 20, 50]]] * 2, np.float32),
    "scores": np.array([[0.9, 0.8, 0.7]] * 2, np.float32),
    "labels": np.zeros((2, 3), np.int64),
}


def test_the_benchmark_runs_without_the_tools_of_the_pipeline():
    code = (
        "import sys, benchmarks.gpu\n"
        "tools = {'hydra', 'omegaconf', 'dvc', 'mlflow', 'stages', 'pipelines'}\n"
        "assert not tools & set(sys.modules), tools & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS.parent, check=True)


def test_the_description_equals_conf():
    assert described() == descriptions(), "run python -m benchmarks.describe"


@pytest.fixture
def case(tmp_path, monkeypatch):
    """Two images on a canvas of 64×96, of a network with one class."""
    values = described() | {"networks": {"tiny": {"class_names": ["a"]}}}
    monkeypatch.setattr(gpu, "described", lambda: values)
    return Case("tiny", 2, (64, 96), tmp_path, tuple(pictures(tmp_path)), rounds=3, warmup=1)


def form(outputs, file=None, notes=()):
    """A form that returns `outputs`, or raises them."""

    class Run:
        def __init__(self):
            self.notes = notes

        def __call__(self, inputs):
            assert inputs["images"].shape == (2, 3, 64, 96)
            assert inputs["sizes"].tolist() == [[64, 96]] * 2
            return outputs

    @contextmanager
    def open_form(case):
        if isinstance(outputs, Exception):
            raise outputs
        yield Run()

    return Form(open_form, file)


def test_detections_agree_within_the_limits_of_boxes_and_scores(case):
    moved = OUTPUTS["boxes"].copy()
    moved[0, 0] += 2  # more than a pixel, and still matched
    moved[1, 2] += 40  # lost
    result = measured(case, form(OUTPUTS | {"boxes": moved}, notes=("a note",)), OUTPUTS)
    assert result.agreeing == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert (result.box, result.score, result.notes) == (2, 0, ("a note",))
    assert 0 < result.median <= result.p95
    assert measured(case, form(OUTPUTS), OUTPUTS).agreeing == 1


def test_a_failure_is_a_row_with_its_reason_and_the_others_are_measured(case, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "reference", lambda case: OUTPUTS)
    monkeypatch.setattr(gpu, "MAKERS", {"fp16": lambda case: pytest.fail("\n no fp16")})
    forms = {
        "not here": form(NotHere("no GPU")),
        "refused": form(SameboxError("targets=['SM90']: no")),
        "broken": form(RuntimeError("CUDA error: |\n" + "long " * 100)),
        "runs": form(OUTPUTS),
    }
    by_form = figures(case, forms, attempt)
    assert by_form["not here"] == Figures("no GPU")
    assert by_form["refused"] == Figures("targets=['SM90']: no")
    assert by_form["broken"].reason.startswith("RuntimeError: CUDA error: | long")
    assert len(by_form["broken"].reason) < 350
    assert by_form["runs"].agreeing == 1
    rows = gpu.sheet(case, by_form).markdown()
    assert "| broken | RuntimeError: CUDA error: / long" in rows
    assert "| not here | no GPU | – | – | – | – |" in rows
    assert "| 100.0% | 0 px, 0 |" in rows
    assert "tiny, batch 2, refused: targets" in capsys.readouterr().out


def test_a_file_that_cannot_be_made_fails_only_its_forms(case, monkeypatch):
    def fail(case):
        raise SameboxError("it overflows")

    monkeypatch.setattr(gpu, "reference", lambda case: OUTPUTS)
    monkeypatch.setattr(gpu, "MAKERS", {"fp16": fail})
    by_form = figures(case, {"fp16": form(OUTPUTS, "fp16"), "fp32": form(OUTPUTS)}, attempt)
    assert by_form["fp16"] == Figures("no fp16 file: it overflows")
    assert by_form["fp32"].reason is None
    case.file("fp16").touch()
    assert make_files(case, {"fp16"}, attempt) == {}


def test_a_run_resumes_an_earlier_one(case, monkeypatch):
    monkeypatch.setattr(gpu, "reference", lambda case: OUTPUTS)
    first = figures(case, {"one": form(OUTPUTS), "two": form(NotHere("no GPU"))}, attempt)
    again = figures(case, {"two": form(OUTPUTS), "one": form(SameboxError("measured again"))}, attempt)
    assert json.dumps(again["one"].cells()) == json.dumps(first["one"].cells())
    assert list(again) == ["two", "one"]
    assert (first["two"].reason, again["two"].reason) == ("no GPU", None)  # it may be available now
    monkeypatch.setattr(gpu, "reference", lambda case: pytest.fail("nothing is left to measure"))
    assert figures(case, {"one": form(OUTPUTS), "two": form(OUTPUTS)}, attempt).keys() == {"one", "two"}


def test_a_process_that_dies_is_a_failure():
    assert attempt_in_own_process(os._exit, 3) == (None, "its process died")


def test_pytorch_on_the_cpu_agrees_with_itself(case, monkeypatch):
    values = described() | {"networks": {"tiny": description("retinanet_shapes")}}
    monkeypatch.setattr(gpu, "described", lambda: values)
    reference = gpu.reference(case)
    assert set(reference) == {"boxes", "scores", "labels"}
    result = measured(case, CPU_FORMS["PyTorch fp32"], reference)
    assert (result.agreeing, result.box) == (1, 0)
    assert result.memory > 0


def test_an_fp16_file_follows_the_rule_of_conf(case):
    tiny_source(case.file("simplified"))
    gpu.make_fp16(case)
    assert case.file("fp16").exists()


@pytest.mark.parametrize("name", GPU_FORMS)
def test_every_gpu_form_states_why_it_does_not_run(case, monkeypatch, name):
    if gpu.gpus():
        pytest.skip("it may run on this GPU")
    tiny_file(case.file("simplified"))
    tiny_file(case.file("fp16"))
    monkeypatch.setattr(gpu, "gpus", lambda: [H200])
    result, reason = attempt(lambda: GPU_FORMS[name].open(case).__enter__())
    assert result is None
    expected = "does not see the GPU|no NVIDIA GPU|is not installed|no GPU here|targets=.'SM90'|without it"
    assert re.search(expected, reason)
    assert "Error:" not in reason  # every reason is an expected one


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["gpu", "--work", str(tmp_path)])
    monkeypatch.setattr(sheets, "RESULTS", tmp_path)
    measured = {
        "a form": Figures(None, 1.25, 2.5, 300, 0.5, 2, 0.1, ("of 4 nodes",)),
        "other": Figures("why"),
    }
    monkeypatch.setattr(gpu, "figures", lambda case, forms: {name: measured[name] for name in measured})
    return tmp_path


def test_without_a_gpu_nothing_is_written(results, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "gpus", list)
    gpu.main()
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].startswith("no NVIDIA GPU here: ")
    assert "## retinanet_r50_fpn, 256×320, batch 1" in printed
    assert "| a form | 1.2 | 2.5 | 300 | 50.0% | 2 px, 0.1 |" in printed
    assert not (results / "gpu.md").exists()


def test_on_a_gpu_every_sheet_is_written_with_the_notes_of_the_runtimes(results, monkeypatch):
    monkeypatch.setattr(gpu, "gpus", lambda: [H200])
    gpu.main()
    text = (results / "gpu.md").read_text()
    for name in described()["networks"]:
        for batch in (1, 8):
            assert f"## {name}, 800×1344, batch {batch}\n" in text
            assert f"- {name}, batch {batch}, a form: of 4 nodes.\n" in text
    assert "| other | why |" in text
    assert "random for retinanet_r50_fpn" in text


def test_a_checkpoint_needs_a_known_network(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu", "--checkpoint", "retinanet=a.pth"])
    with pytest.raises(SystemExit):
        gpu.parse_arguments()
    assert (
        "--checkpoint: 'retinanet' is none of mask_rcnn_r50_fpn, retinanet_r50_fpn" in capsys.readouterr().err
    )
    monkeypatch.setattr("sys.argv", ["gpu", "--checkpoint", "retinanet_r50_fpn=a=b.pth"])
    assert gpu.parse_arguments().checkpoint == {"retinanet_r50_fpn": Path("a=b.pth")}
