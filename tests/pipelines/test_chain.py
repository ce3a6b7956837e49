import json
import multiprocessing
import time
from pathlib import Path

import demo_forms
import pytest

import stages.download
import stages.engine
import stages.evaluate
import stages.export
import stages.precision
import stages.simplify
from pipelines import chain
from samebox.coco.evaluated import EvaluatedForm, write_evaluated
from samebox.core.errors import SameboxError
from stages.compose import artifact, compose
from stages.precision import rule

METRICS = {
    "detector": "retinanet_shapes", "model": "RetinaNet", "dataset": "shapes", "status": "not run",
    "reason": "a test", "score": None, "timing": None,
}  # fmt: skip


@pytest.fixture
def config(tmp_path):
    return compose("chain", [f"work={tmp_path}/work", f"paths.store={tmp_path}/m.db"])


def step(config, inputs, stage):
    return Path(chain.run_once(config, "onnx", inputs, stage))


def leave(text):
    """A stage that writes `text` where its output belongs."""

    def run(config):
        target = artifact(config, config.paths.onnx, config.paths.onnx_file)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    return run


def read(folder):
    return (folder / "retinanet_shapes/model.onnx").read_text()


def test_equal_inputs_are_run_once(config):
    first = step(config, {"opset": 18, "shape": [1, 2]}, leave("first"))
    again = step(config, {"shape": [1, 2], "opset": 18}, leave("again"))
    assert first == again
    assert read(again) == "first"


def test_other_inputs_another_step_and_other_versions_are_run_again(config, monkeypatch):
    folders = [step(config, {"opset": opset}, leave(f"at {opset}")) for opset in (16, 18)]
    assert [read(folder) for folder in folders] == ["at 16", "at 18"]
    config.paths.torch = "elsewhere"  # no input of the step
    assert step(config, {"opset": 18}, leave("again")) == folders[1]
    monkeypatch.setattr(chain, "versions", lambda: {"torch": "3"})
    assert read(step(config, {"opset": 18}, leave("newer"))) == "newer"


def test_a_stage_that_fails_leaves_nothing_and_is_run_again(config):
    def fail(placed):
        leave("half")(placed)
        raise SameboxError("no space")

    with pytest.raises(SameboxError, match="no space"):
        step(config, {}, fail)
    assert not [path for path in Path(config.work).glob("onnx/*") if path.is_dir() and path.suffix != ".part"]
    folder = step(config, {}, leave("whole"))
    assert read(folder) == "whole"
    assert {path.suffix for path in folder.parent.iterdir()} <= {"", ".lock"}


def test_what_a_killed_run_left_is_no_part_of_the_next(config):
    folder = step(config, {}, leave("first"))
    folder.rename(folder.with_suffix(".part"))
    (folder.with_suffix(".part") / "rubbish").touch()
    assert step(config, {}, leave("second")) == folder
    assert read(folder) == "second"
    assert not (folder / "rubbish").exists()


def slow_step(work, log):
    """What two processes do at once."""

    def run(config):
        with log.open("a") as file:
            file.write("ran\n")
        time.sleep(0.5)
        leave("slow")(config)

    config = compose("chain", [f"work={work}"])
    with log.open("a") as file:
        assert read(step(config, {}, run)) == "slow"
        file.write("found\n")


def test_a_process_waits_for_another_that_does_the_same(tmp_path):
    log = tmp_path / "log"
    processes = [
        multiprocessing.get_context("spawn").Process(target=slow_step, args=(tmp_path / "work", log))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert log.read_text().split() == ["ran", "found", "found"]


@pytest.fixture
def ran(monkeypatch):
    """The stages that run, each of which leaves a word about what it was asked."""
    done = []
    more = {"precision": ["precision"]}

    def standing_in(name, folder_and_file):
        def run(config):
            done.append(name)
            target = artifact(config, *folder_and_file(config))
            target.parent.mkdir(parents=True, exist_ok=True)
            asked = {key: str(config.get(key)) for key in ("export", "simplify", *more.get(name, ()))}
            target.write_text(json.dumps(asked if name != "download" else "weights"))

        return run

    def evaluate(config):
        done.append(f"evaluate {config.runtime.name}")
        metrics = METRICS | {"runtime": config.runtime.name, "title": config.runtime.title}
        write_evaluated(artifact(config, config.paths.evaluated, config.runtime.name), EvaluatedForm(metrics))

    for name, place in {
        "download": lambda config: (config.paths.torch, config.paths.checkpoint_file),
        "export": lambda config: (config.paths.onnx, config.paths.onnx_file),
        "simplify": lambda config: (config.paths.simplified, config.paths.onnx_file),
        "precision": lambda config: (config.precision.folder, config.paths.onnx_file),
    }.items():
        monkeypatch.setattr(getattr(stages, name), "run", standing_in(name, place))
    monkeypatch.setattr(stages.evaluate, "run", evaluate)
    return done


def forms(tmp_path, *overrides):
    config = compose("chain", [f"work={tmp_path}/work", *overrides])
    return [form.metrics["runtime"] for form in chain.chain(config, config.runtimes)]


FORMS = ["torch", "onnx", "simplified"]
EVERY_STEP = ["download", "export", "simplify", *(f"evaluate {name}" for name in FORMS)]


def test_a_chain_runs_every_step_and_then_none(tmp_path, ran):
    assert forms(tmp_path) == FORMS
    assert ran == EVERY_STEP
    ran.clear()
    assert forms(tmp_path) == FORMS
    assert ran == []


@pytest.mark.parametrize(
    ("override", "again"),
    [
        ("export.opset=20", ["export", "simplify", "evaluate onnx", "evaluate simplified"]),
        ("export.shape=256x384", ["export", "simplify", *EVERY_STEP[3:]]),  # PyTorch is fed that canvas, too
        ("simplify.shapes=[[1,64,64]]", ["simplify", "evaluate simplified"]),
        ("evaluate.batches=[1]", EVERY_STEP[3:]),
        # the stand-in's file comes out the same, and is not simplified again
        ("detector.network.score_threshold=0.1", ["export", *EVERY_STEP[3:]]),
        ("detector.source=elsewhere.pth", ["download", "export", *EVERY_STEP[3:]]),
        ("dataset.archives=[{source:a.zip}]", ["download", "export", *EVERY_STEP[3:]]),
        ("compare.max_ap_drop=1.0", []),
        ("runtimes=[torch]", []),
    ],
)
def test_a_change_runs_the_steps_that_it_touches(tmp_path, ran, override, again):
    forms(tmp_path)
    ran.clear()
    forms(tmp_path, override)
    assert ran == again


def test_the_checkpoint_alone_needs_no_export(tmp_path, ran):
    assert forms(tmp_path, "runtimes=[torch]") == ["torch"]
    assert ran == ["download", "evaluate torch"]


def test_what_a_form_runs_on_is_asked_of_it_alone():
    with pytest.raises(SameboxError, match=r"runtime\.runner\.device: no such key"):
        compose("chain", ["runtime.runner.device=cuda"])


def test_another_machine_evaluates_for_itself(tmp_path, ran, monkeypatch):
    forms(tmp_path)
    ran.clear()
    monkeypatch.setattr(chain, "hardware", lambda: {"gpus": ["one more"]})
    forms(tmp_path)
    assert ran == EVERY_STEP[3:]


def test_an_engine_that_cannot_be_built_here_is_a_form_that_was_not_run(tmp_path, ran, monkeypatch):
    def not_built(config):
        ran.append("engine")
        target = artifact(config, config.runtime.folder, config.paths.not_built_file)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("not built: no GPU\n")

    monkeypatch.setattr(stages.engine, "run", not_built)
    assert forms(tmp_path, "runtimes=[torch,tensorrt_rtx]") == ["torch", "tensorrt_rtx"]
    assert ran == [*EVERY_STEP[:4], "engine", "evaluate tensorrt_rtx"]


def test_a_precision_is_made_once_for_its_form_and_its_engine(tmp_path, ran, monkeypatch):
    def build(config):
        source = artifact(config, config.runtime.source, config.paths.onnx_file)
        ran.append(f"engine of {json.loads(source.read_text())['precision']}")
        target = artifact(config, config.runtime.folder, config.runtime.file)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("engine")

    monkeypatch.setattr(stages.engine, "run", build)
    names = ["torch", "int8", "tensorrt_rtx_int8"]
    asked = f"runtimes=[{','.join(names)}]"
    assert forms(tmp_path, asked) == names
    assert ran[:6] == [*EVERY_STEP[:4], "precision", "evaluate int8"]
    assert "'name': 'int8'" in ran[6]
    assert ran[7:] == ["evaluate tensorrt_rtx_int8"]
    ran.clear()
    forms(tmp_path, asked, "precision.count=8")
    steps = [step.partition(" of")[0] for step in ran]
    # the stand-in's engine comes out the same, and is not evaluated again
    assert steps == ["precision", "evaluate int8", "engine"]


@pytest.mark.parametrize(("name", "unbuilt"), [("fp16", []), ("bf16", ["ConvTranspose"])])
def test_what_is_asked_of_precisions_comes_to_that_of_each(tmp_path, ran, monkeypatch, name, unbuilt):
    rules, standing_in = [], stages.precision.run

    def convert(config):
        rules.append(rule(config).keep)
        standing_in(config)

    monkeypatch.setattr(stages.precision, "run", convert)
    forms(tmp_path, f"runtimes=[torch,{name}]", "precision.keep=['*.bbox_head.*']")
    assert rules == [["*.bbox_head.*", *unbuilt]]


def test_the_folders_of_the_pipeline_are_left_alone(tmp_path, ran):
    before = {path: path.stat().st_mtime for path in (demo_forms.ROOT / "artifacts").glob("*/*")}
    forms(tmp_path)
    after = {path: path.stat().st_mtime for path in (demo_forms.ROOT / "artifacts").glob("*/*")}
    assert after == before
