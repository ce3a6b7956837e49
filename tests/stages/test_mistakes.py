"""A user's mistake ends in one line that names it and the fix, with exit code 1."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pipelines.sweep
from stages.compose import guarded, main

ROOT = Path(__file__).parents[2]
CHECKPOINT = "demo/checkpoints/retinanet_shapes.pth"
FOLDERS = ("torch", "onnx", "simplified", "evaluated", "differences", "compared", "tracked", "report")
MODEL = [f"checkpoint={CHECKPOINT}", "out=model.onnx"]

# Stage, its overrides, and a pattern of the line. `HERE` is a folder with the checkpoint only
MISTAKES = {
    "unknown detector": (
        "export",
        ["detector=retinanet_r500"],
        "Could not find 'detector/retinanet_r500'.*retinanet_r50_fpn",
    ),
    "unknown runtime": ("evaluate", ["runtime=tensorflow"], "Could not find 'runtime/tensorflow'.*torch"),
    "opset too new": ("export", ["export.opset=99"], r"export\.opset: 99 is outside 11\.\.\d+"),
    "opset too old": ("export", ["export.opset=10"], r"export\.opset: 10 is outside 11\.\.\d+"),
    "opset in words": (
        "export",
        ["export.opset=high"],
        "export.opset: 'high' is not a whole number, such as 18",
    ),
    "opset and a half": ("export", ["export.opset=17.5"], "export.opset: 17.5 is not a whole number"),
    "no opset": ("export", ["export.opset="], "export.opset: '' is not a whole number"),
    "no checkpoint": (
        "export",
        ["paths.torch=HERE/none"],
        r"none/retinanet_shapes/checkpoint\.pth: no such file; run stages\.down",
    ),
    "misspelt key": ("export", ["export.opsett=18"], "export.opsett: no such key; did you mean export.opset"),
    "key of another stage": ("simplify", ["export.opset=18"], "export.opset: no such key"),
    "key without its section": (
        "export",
        ["opset=17"],
        r"opset: no such key; did you mean export\.opset\?$",
    ),
    "misspelt key without its section": ("export", ["lowring=onnx"], r"did you mean export\.lowering\?$"),
    "key that several sections have": (
        "pipelines.chain",
        ["opset=17"],
        r"opset: no such key; did you mean export\.opset or precision\.opset\?$",
    ),
    "added key without a section": ("export", ["+opset=17"], r"did you mean export\.opset\?$"),
    "precision of the chain": (
        "pipelines.chain",
        ["precision=fp16"],
        r"precision: not a choice of this command; write runtimes=\[torch,simplified,fp16\]$",
    ),
    "runtime of the chain": (
        "pipelines.chain",
        ["runtime=onnx"],
        r"runtime: not a choice of this command; write runtimes=\[torch,onnx\]$",
    ),
    "added choice": (
        "pipelines.chain",
        ["+runtime=onnx"],
        r"\+runtime=onnx: a choice cannot be added; write runtime=onnx$",
    ),
    "precision of two forms": ("pipelines.difference", ["precision=int8"], "command; write to=int8$"),
    "precision of one form": ("pipelines.submit", ["precision=fp16"], "command; write runtime=fp16$"),
    "forms of a command that takes two": (
        "pipelines.difference",
        ["runtimes=[torch,onnx]"],
        "runtimes: no such key",
    ),
    "runtime of the export": (
        "export",
        ["runtime=onnx"],
        "runtime: not a choice of this command; the choices of this command are detector, dataset$",
    ),
    "detector of the report": (
        "report",
        ["detector=retinanet_shapes"],
        "detector: not a choice of this command",
    ),
    "unknown lowering": ("export", ["export.lowering=tensorrt"], "'tensorrt' is none of portable, onnx"),
    "shape of one number": (
        "export",
        ["export.shape=800"],
        "export.shape: 800 is neither dynamic nor HEIGHTxWID",
    ),
    "shape without height": (
        "export",
        ["export.shape=0x800"],
        "export.shape: '0x800' is neither dynamic nor",
    ),
    "shape as a list": ("export", ["export.shape=[800,1333]"], r"export\.shape: \[800, 1333\] is not a text"),
    "negative batch": (
        "export",
        ["export.batch=-1"],
        "export.batch: -1 is neither dynamic nor a number from 1 up",
    ),
    "batch in words": (
        "export",
        ["export.batch=many"],
        "export.batch: 'many' is neither dynamic nor a number",
    ),
    "batch true": ("export", ["export.batch=true"], "export.batch: True is not a text or a number"),
    "unreadable override": (
        "export",
        ["export.opset=[1"],
        r"'export\.opset=\[1': not an override; write KEY=VAL",
    ),
    "an option": (
        "export",
        ["--opset"],
        "'--opset': not an override; write KEY=VALUE, such as export.opset=18",
    ),
    "deleted key": ("export", ["~export.opset"], "~export.opset: a key cannot be deleted"),
    "deleted group": ("export", ["~detector"], "~detector: a key cannot be deleted"),
    "two values": ("export", ["export.opset=16,18"], "Ambiguous value for argument 'export.opset=16,18'"),
    "a number for a section": ("export", ["export=3"], "export: 3 is not a mapping"),
    "unknown part of a network": (
        "export",
        ["detector.network.backbone._target_=samebox.none.None"],
        r"detector\.network\.backbone\._target_: 'samebox\.none\.None' is no part of a network",
    ),
    "checkpoint of other classes": (
        "export",
        ["detector.class_names=[cat,dog]"],
        r"does not fit the network: 2 of another shape: bbox_head\.retina_cls\.weight.*choose the detector",
    ),
    "evaluated before exported": (
        "evaluate",
        ["runtime=onnx"],
        r"onnx/retinanet_shapes/model\.onnx: no such file; run the stage that writes it",
    ),
    "evaluated before built": (
        "evaluate",
        ["runtime=tensorrt_rtx", "runtime.folder=HERE"],
        r"model\.engine: no such file; build",
    ),
    "simplified before exported": (
        "simplify",
        [],
        r"onnx/retinanet_shapes/model\.onnx: no such file; export",
    ),
    "built before simplified": (
        "engine",
        [],
        r"simplified/retinanet_shapes/model\.onnx: no such file; export",
    ),
    "compared before the differences": (
        "compare",
        [],
        r"differences\.json: no such file; run stages\.differences",
    ),
    "differences before evaluated": (
        "differences",
        [],
        r"retinanet_shapes/torch/metrics\.json: no such file",
    ),
    "tracked before the differences": (
        "track",
        [],
        r"differences\.json: no such file; run stages\.differences",
    ),
    "no annotations": (
        "evaluate",
        ["dataset.annotations=HERE/none.json"],
        r"none\.json: no such file; check the path",
    ),
    "annotations that are none": (
        "evaluate",
        [f"dataset.annotations={CHECKPOINT}"],
        r"shapes\.pth: not JSON",
    ),
    "no images": (
        "evaluate",
        ["dataset.images=HERE/none"],
        r"shapes: none of its images could be run: .*000020000000\.jpg",
    ),
    "classes that the data set lacks": (
        "evaluate",
        ["dataset.annotations=HERE/other.json"],
        r"other\.json: no category is called disc, square, .*; its categories are cat; use these names for",
    ),
    "a data set without objects": (
        "evaluate",
        ["dataset.annotations=HERE/unknown.json"],
        r"unknown\.json: has no annotations to score against; write results .* with `samebox submit`",
    ),
    "batch of no image": (
        "evaluate",
        ["evaluate.batches=[0]"],
        r"evaluate\.batches: \[0\]: give one number or",
    ),
    "no batch": ("evaluate", ["evaluate.batches=[]"], r"evaluate\.batches: \[\]: give one number or more"),
    "a number for a list": (
        "evaluate",
        ["evaluate.batches=4"],
        r"evaluate\.batches: 4 is not a list, such as \[1, 4\]",
    ),
    "warm-up below none": (
        "evaluate",
        ["evaluate.warmup=-1"],
        "evaluate.warmup: -1: give a number from 0 up",
    ),
    "unknown device of PyTorch": (
        "evaluate",
        ["runtime.runner.device=tpu"],
        "device: 'tpu' is not one of cpu, cuda",
    ),
    "limit in words": (
        "compare",
        ["compare.max_ap_drop=some"],
        "compare.max_ap_drop: 'some' is not a number",
    ),
    "checkpoint of another hash": (
        "download",
        ["detector.sha256=00000000"],
        "shapes.pth: expected SHA-256 00000000, found fd6cfac4",
    ),
    "no source": (
        "download",
        ["detector.source=HERE/none.pth", "paths.torch=HERE/new"],
        r"none\.pth: no such file; give a local path or an",
    ),
    "neither file nor name": ("pipelines.export", [], "checkpoint, out: not given; add checkpoint=VALUE"),
    "no name": ("pipelines.export", MODEL[:1], "out: not given; add out=VALUE"),
    "empty name": ("pipelines.export", [*MODEL[:1], "out="], "out: is empty; give a value"),
    "flag that is none": (
        "pipelines.export",
        [*MODEL, "simplify=maybe"],
        "simplify: 'maybe' is not true or false, such as false",
    ),
    "a number for a flag": ("pipelines.export", [*MODEL, "verify=1"], "verify: 1 is not true or false"),
    "another network's checkpoint": (
        "pipelines.export",
        [*MODEL, "detector=retinanet_r50_fpn"],
        r"does not fit the network: \d+ missing: backb",
    ),
    "a folder for a checkpoint": (
        "pipelines.export",
        ["checkpoint=demo", "out=a.onnx"],
        "demo: a directory; give the path",
    ),
    "no checkpoint by a pipeline": (
        "pipelines.export",
        ["checkpoint=HERE/none.pth", "out=a.onnx"],
        r"none\.pth: no such file; name a check",
    ),
    "a program for a checkpoint": (
        "pipelines.export",
        ["checkpoint=demo/shapes/draw.py", "out=a.onnx"],
        "neither a torch file nor a pickle",
    ),
    "unknown form": (
        "pipelines.chain",
        ["runtimes=[tensorflow]"],
        r"runtimes: \['tensorflow'\]: name one or more of bf16, fp16, int8, onnx",
    ),
    "no form": (
        "pipelines.chain",
        ["runtimes=[]"],
        r"runtimes: \[\]: name one or more of bf16, fp16, int8, onnx",
    ),
}

SWEEPS = {
    "misspelt key": (["export.opsett=16,18"], "export.opsett: no such key; did you mean export.opset"),
    "one value of another kind": (["export.opset=16,high"], "export.opset: 'high' is not a whole number"),
    "one choice of none": (["detector=retinanet_shapes,none"], "Could not find 'detector/none'"),
    "key without its section": (
        ["opset=16,18"],
        r"opset: no such key; did you mean export\.opset or precision\.opset\?$",
    ),
    "choice that the chain does not have": (
        ["precision=fp16,int8"],
        r"precision: not a choice of this command; write runtimes=\[torch,simplified,fp16\]$",
    ),
    "no launcher": (["hydra/launcher=none"], "Could not find 'hydra/launcher/none'.*joblib"),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the checkpoint in its place and the annotations of another data set."""
    monkeypatch.chdir(ROOT)
    checkpoint = tmp_path / "torch/retinanet_shapes/checkpoint.pth"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.symlink_to(ROOT / CHECKPOINT)
    image = {"id": 1, "file_name": "cat.jpg", "height": 8, "width": 8}
    cat = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 0}
    other = {"images": [image], "annotations": [cat], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "other.json").write_text(json.dumps(other))
    (tmp_path / "unknown.json").write_text(json.dumps(other | {"annotations": []}))
    return tmp_path


def command_line(here, overrides):
    """The overrides, with all output folders in `here`."""
    folders = [f"paths.{name}={here}/{name}" for name in FOLDERS]
    return [*folders, f"paths.store={here}/m.db", *(text.replace("HERE", str(here)) for text in overrides)]


def error_line(call):
    """The line on stderr that a mistake ends in."""
    with pytest.raises(SystemExit) as end:
        call()
    line = end.value.code  # Python writes a code that is text to stderr, and exits with 1
    assert isinstance(line, str)
    assert line.startswith("error: ")
    assert "\n" not in line
    return line


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_reported_in_one_line(name, here, monkeypatch, capsys):
    stage, overrides, pattern = MISTAKES[name]
    module = importlib.import_module(stage if "." in stage else f"stages.{stage}")
    config = "export_file" if stage == "pipelines.export" else stage.removeprefix("pipelines.")
    before = sorted(here.rglob("*"))
    monkeypatch.setattr(sys, "argv", [stage, *command_line(here, overrides)])
    if stage == "pipelines.chain":
        sys.argv.append(f"work={here}/work")
    line = error_line(lambda: main(config, module.run))
    assert re.search(pattern, line)
    assert capsys.readouterr().err == ""
    assert sorted(here.rglob("*")) == before  # it leaves nothing, not even half a file
    assert not (ROOT / "model.onnx").exists()


@pytest.mark.parametrize("name", SWEEPS)
def test_a_mistake_in_a_sweep_is_reported_before_it_starts(name, here, monkeypatch, capsys):
    overrides, pattern = SWEEPS[name]
    monkeypatch.setattr(pipelines.sweep, "sweep", lambda: pytest.fail("the sweep was started"))
    monkeypatch.setattr(sys, "argv", ["sweep", "-m", *command_line(here, overrides)])
    assert re.search(pattern, error_line(lambda: guarded(pipelines.sweep.main)))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("module", "overrides", "pattern"),
    [
        ("stages.export", ["export.opset=99"], "error: export.opset: 99 is outside"),
        ("stages.evaluate", ["runtime=onnx"], "no such file; run the stage that writes it"),
        (
            "pipelines.sweep -m",
            ["export.opset=99,100", "work=HERE/work"],
            "error: 2 of 2 points failed; HERE/work/opset-",
        ),
        ("pipelines.sweep", ["export.opset=16,18", "work=HERE/work"], "To sweep over it, add --multirun"),
    ],
)
def test_a_process_writes_one_line_and_exits_with_one(module, overrides, pattern, here):
    command = [sys.executable, "-m", *module.split(), *command_line(here, overrides)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert pattern.replace("HERE", str(here)) in done.stderr
