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
from benchmarks.gpu import CPU_FORMS, GPU_FORMS, Case, Figures, Form, apart, figures, made, measured, tried
from benchmarks.networks import described
from samebox.core.errors import NotHere, SameboxError
from samebox.core.gpu import Gpu

BENCHMARKS = Path(gpu.__file__).parent
H200 = Gpu("NVIDIA H200", (9, 0), 143771)
FOUND = {
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


def test_the_description_is_what_conf_says():
    assert described() == descriptions(), "run python -m benchmarks.describe"


@pytest.fixture
def case(tmp_path, monkeypatch):
    """Two images on a canvas of 64×96, of a network with one class."""
    values = described() | {"networks": {"tiny": {"class_names": ["a"]}}}
    monkeypatch.setattr(gpu, "described", lambda: values)
    return Case("tiny", 2, (64, 96), tmp_path, tuple(pictures(tmp_path)), rounds=3, warmup=1)


def form(outputs, file=None, notes=()):
    """A form that answers with `outputs`, or raises them."""

    class Run:
        def __init__(self):
            self.notes = notes

        def __call__(self, inputs):
            assert inputs["images"].shape == (2, 3, 64, 96)
            assert inputs["sizes"].tolist() == [[64, 96]] * 2
            return outputs

    @contextmanager
    def opened(case):
        if isinstance(outputs, Exception):
            raise outputs
        yield Run()

    return Form(opened, file)


def test_agreement_is_of_boxes_and_scores_within_their_limits(case):
    moved = FOUND["boxes"].copy()
    moved[0, 0] += 2  # beyond a pixel, and found again
    moved[1, 2] += 40  # lost
    found = measured(case, form(FOUND | {"boxes": moved}, notes=("a note",)), FOUND)
    assert found.agreeing == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert (found.box, found.score, found.notes) == (2, 0, ("a note",))
    assert 0 < found.median <= found.p95
    assert measured(case, form(FOUND), FOUND).agreeing == 1


def test_what_fails_is_a_row_with_its_reason_and_the_others_are_measured(case, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "reference", lambda case: FOUND)
    monkeypatch.setattr(gpu, "MAKERS", {"fp16": lambda case: pytest.fail("\n no fp16")})
    forms = {
        "not here": form(NotHere("no GPU")),
        "refused": form(SameboxError("targets=['SM90']: no")),
        "broken": form(RuntimeError("CUDA error: |\n" + "long " * 100)),
        "runs": form(FOUND),
    }
    found = figures(case, forms, tried)
    assert found["not here"] == Figures("no GPU")
    assert found["refused"] == Figures("targets=['SM90']: no")
    assert found["broken"].reason.startswith("RuntimeError: CUDA error: | long")
    assert len(found["broken"].reason) < 350
    assert found["runs"].agreeing == 1
    rows = gpu.sheet(case, found).markdown()
    assert "| broken | RuntimeError: CUDA error: / long" in rows
    assert "| not here | no GPU | – | – | – | – |" in rows
    assert "| 100.0% | 0 px, 0 |" in rows
    assert "tiny, batch 2, refused: targets" in capsys.readouterr().out


def test_a_file_that_cannot_be_made_is_the_reason_of_its_forms_alone(case, monkeypatch):
    def fails(case):
        raise SameboxError("it overflows")

    monkeypatch.setattr(gpu, "reference", lambda case: FOUND)
    monkeypatch.setattr(gpu, "MAKERS", {"fp16": fails})
    found = figures(case, {"fp16": form(FOUND, "fp16"), "fp32": form(FOUND)}, tried)
    assert found["fp16"] == Figures("no fp16 file: it overflows")
    assert found["fp32"].reason is None
    case.file("fp16").touch()
    assert made(case, {"fp16"}, tried) == {}


def test_a_run_goes_on_where_an_earlier_one_ended(case, monkeypatch):
    monkeypatch.setattr(gpu, "reference", lambda case: FOUND)
    first = figures(case, {"one": form(FOUND), "two": form(NotHere("no GPU"))}, tried)
    again = figures(case, {"two": form(FOUND), "one": form(SameboxError("measured again"))}, tried)
    assert json.dumps(again["one"].cells()) == json.dumps(first["one"].cells())
    assert list(again) == ["two", "one"]
    assert (first["two"].reason, again["two"].reason) == ("no GPU", None)  # it may be there by now
    monkeypatch.setattr(gpu, "reference", lambda case: pytest.fail("nothing is left to measure"))
    assert figures(case, {"one": form(FOUND), "two": form(FOUND)}, tried).keys() == {"one", "two"}


def test_a_process_that_dies_is_a_reason():
    assert apart(os._exit, 3) == (None, "its process died")


def test_pytorch_on_the_cpu_agrees_with_itself(case, monkeypatch):
    values = described() | {"networks": {"tiny": description("retinanet_shapes")}}
    monkeypatch.setattr(gpu, "described", lambda: values)
    reference = gpu.reference(case)
    assert set(reference) == {"boxes", "scores", "labels"}
    found = measured(case, CPU_FORMS["PyTorch fp32"], reference)
    assert (found.agreeing, found.box) == (1, 0)
    assert found.memory > 0


def test_an_fp16_file_is_made_by_the_rule_of_conf(case):
    tiny_source(case.file("simplified"))
    gpu.make_fp16(case)
    assert case.file("fp16").exists()


@pytest.mark.parametrize("name", GPU_FORMS)
def test_every_form_of_a_gpu_says_here_why_it_does_not_run(case, monkeypatch, name):
    if gpu.gpus():
        pytest.skip("it may run here")
    tiny_file(case.file("simplified"))
    tiny_file(case.file("fp16"))
    monkeypatch.setattr(gpu, "gpus", lambda: [H200])
    found, reason = tried(lambda: GPU_FORMS[name].open(case).__enter__())
    assert found is None
    said = "does not see the GPU|no NVIDIA GPU|is not installed|no GPU here|targets=.'SM90'|without it"
    assert re.search(said, reason)
    assert "Error:" not in reason  # foreseen, one and all


@pytest.fixture
def asked(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["gpu", "--work", str(tmp_path)])
    monkeypatch.setattr(sheets, "RESULTS", tmp_path)
    measured = {
        "a form": Figures(None, 1.25, 2.5, 300, 0.5, 2, 0.1, ("of 4 nodes",)),
        "other": Figures("why"),
    }
    monkeypatch.setattr(gpu, "figures", lambda case, forms: {name: measured[name] for name in measured})
    return tmp_path


def test_without_a_gpu_it_says_so_and_writes_nothing(asked, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "gpus", list)
    gpu.main()
    told = capsys.readouterr().out
    assert told.splitlines()[0].startswith("no NVIDIA GPU here: ")
    assert "## retinanet_r50_fpn, 256×320, batch 1" in told
    assert "| a form | 1.2 | 2.5 | 300 | 50.0% | 2 px, 0.1 |" in told
    assert not (asked / "gpu.md").exists()


def test_on_a_gpu_every_sheet_is_written_with_what_the_runtimes_told(asked, monkeypatch):
    monkeypatch.setattr(gpu, "gpus", lambda: [H200])
    gpu.main()
    text = (asked / "gpu.md").read_text()
    for name in described()["networks"]:
        for batch in (1, 8):
            assert f"## {name}, 800×1344, batch {batch}\n" in text
            assert f"- {name}, batch {batch}, a form: of 4 nodes.\n" in text
    assert "| other | why |" in text
    assert "random for retinanet_r50_fpn" in text


def test_a_checkpoint_is_a_networks(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu", "--checkpoint", "retinanet=a.pth"])
    with pytest.raises(SystemExit):
        gpu.parsed()
    assert (
        "--checkpoint: 'retinanet' is none of mask_rcnn_r50_fpn, retinanet_r50_fpn" in capsys.readouterr().err
    )
    monkeypatch.setattr("sys.argv", ["gpu", "--checkpoint", "retinanet_r50_fpn=a=b.pth"])
    assert gpu.parsed().checkpoint == {"retinanet_r50_fpn": Path("a=b.pth")}
