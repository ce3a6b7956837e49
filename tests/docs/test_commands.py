"""The commands and the Python code of the README and of docs/, as they are written there.

Commands run in a folder with the demo's checkpoints and eight of its images; later ones use what earlier
ones wrote. A command that takes long, or needs what a test machine does not have, is only checked by the
parser that reads it. A command that is in neither list fails the test.
"""

import copy
import io
import json
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from glob import glob
from pathlib import Path

import pytest
import torch
import yaml
from doc_pages import PAGES, ROOT, code_blocks, named

from pipelines.chain import check_runtimes
from samebox import cli
from samebox.graph import export
from samebox.predict import parse_arguments
from stages.compose import check

RUN = (
    "samebox export detector=retinanet_shapes checkpoint=demo/checkpoints/retinanet_shapes.pth "
    "out=retinanet.onnx verify=true image=demo/shapes/val/000020000000.jpg",
    "samebox benchmark demo/checkpoints/retinanet_shapes.pth "
    "--data demo/shapes/annotations/instances_val.json --images demo/shapes/val "
    "--formats torch,onnx,simplified",
    "samebox predict retinanet.onnx demo/shapes/val/*1.jpg --out pictures",
    "samebox predict demo/checkpoints/mask_rcnn_shapes.pth demo/shapes/val/*1.jpg --out drawn",
    "samebox adopt demo/checkpoints/retinanet_shapes.pth name=mine",
    "samebox predict retinanet.onnx demo/shapes/val/*1.jpg --out drawn",
    "samebox predict retinanet.onnx demo/shapes/val --out drawn --threshold 0.5",
    "samebox predict retinanet.onnx demo/shapes/val --out drawn "
    "--categories demo/shapes/annotations/instances_val.json",
    "samebox recall detector=mask_rcnn_shapes",
    "samebox submit detector=mask_rcnn_shapes runtime=torch format=voc",
)
LONG, ALL, GPU, FETCHES, SHOWS = (
    "it exports again; tests/pipelines runs such commands",
    "it runs the whole pipeline",
    "it builds engines or needs a GPU",
    "it installs or fetches packages or data",
    "it shows what `dvc repro` has made, in this repository",
)
# Command → why it is only checked
CHECKED = {
    "pip install .": FETCHES,
    "pip install '.[pipeline]'": FETCHES,
    "pip install '.[tensorrt-rtx]'": FETCHES,
    "pip install samebox": FETCHES,
    "pip install 'samebox[tensorrt-rtx]'": FETCHES,
    "pip uninstall --yes onnxruntime onnxruntime-gpu && pip install 'onnxruntime-gpu[cuda,cudnn]'": FETCHES,
    "echo \"onnxruntime; python_version < '0'\" > overrides.txt": "the next command uses it",
    "uv pip install --override overrides.txt 'samebox[gpu]'": FETCHES,
    "samebox predict retinanet.onnx clip.mov --out drawn --frames 500": "it needs a video",
    "samebox predict retinanet.engine camera --out drawn": "it needs an engine and a camera",
    "samebox predict checkpoint.pth photos/ --out drawn --device cuda --detector mine": GPU,
    "make demo": ALL,
    "make test": ALL,
    "make lint": "the linters run before every change lands",
    "pre-commit install": "it writes to the repository; test_pre_commit.py checks the hooks",
    "samebox export detector=mine checkpoint=demo/checkpoints/retinanet_shapes.pth out=mine.onnx": LONG,
    "samebox compare detector=retinanet_shapes from=torch to=simplified": LONG,
    "samebox bisect detector=retinanet_shapes from=torch to=int8 precision.method=entropy": LONG,
    "samebox submit detector=mask_rcnn_r50_fpn dataset=coco_test_dev runtime=onnx algorithm=mine": FETCHES,
    "samebox chain 'runtimes=[torch,simplified,fp16,bf16,int8]'": LONG,
    "samebox chain 'runtimes=[torch,simplified,tensorrt_rtx]'": GPU,
    "samebox chain 'runtimes=[torch,onnx,onnxruntime_cuda]'": GPU,
    "samebox chain detector=retinanet_shapes export.opset=16": LONG,
    "samebox sweep -m export.opset=11,16,18 export.lowering=portable,onnx sweep.name=opsets": LONG,
    "samebox sweep -m 'runtimes=[torch,int8]' precision.method=percentile,minmax precision.count=8,32": LONG,
    "samebox sweep -m detector.network.score_threshold=0.05,0.3 hydra/launcher=joblib "
    "hydra.launcher.n_jobs=2": LONG,
    "dvc repro": ALL,
    "dvc repro compare@retinanet_shapes": ALL,
    "OMP_NUM_THREADS=4 python -m pipelines.repro -j 8": ALL,
    "mlflow ui --backend-store-uri sqlite:///artifacts/mlflow.db": "it serves until it is stopped",
    "dvc metrics show": SHOWS,
    "dvc plots show": SHOWS,
    "dvc metrics diff HEAD~1": SHOWS,
    "dvc plots diff HEAD~1": SHOWS,
    "dvc exp run -S 'conf/step/export.yaml:opset=16'": ALL,
    "dvc exp show --drop '.*' --keep 'Experiment|opset|.*:bbox/AP$'": SHOWS,
}
# Command of samebox → the config that reads its overrides
CONFIGS = {
    "export": "export_file",
    "chain": "chain",
    "sweep": "sweep",
    "bisect": "bisect",
    "compare": "difference",
    "submit": "submit",
}
IMAGES = ("0", "1", "11", "21", "31", "41", "100", "150")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads that wait for a core would take most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # which ONNX Runtime gets from samebox
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def one_trace():
    """`samebox export` and `samebox benchmark` share the trace of their network, which takes longest."""
    traced = {}

    def onnx_from_network(network, *arguments):
        weights = sum(value.double().sum().item() for value in network.state_dict().values())
        key = (network.outputs, weights, *arguments)
        if key not in traced:
            traced[key] = trace(network, *arguments)
        return copy.deepcopy(traced[key])

    trace = export.onnx_from_network
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "onnx_from_network", onnx_from_network)
        yield
    assert len(traced) <= 1


def commands(page):
    """The commands of the shell blocks of a page, each on one line."""
    for block in code_blocks(page, "sh"):
        for line in re.sub(r"\s*\\\n\s*", " ", block).splitlines():
            command = re.sub(r"\s+#\s.*$", "", line).strip()
            if command:
                yield command


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with the demo's checkpoints and eight of its images."""
    folder = tmp_path_factory.mktemp("workplace")
    shapes = folder / "demo/shapes"
    (shapes / "annotations").mkdir(parents=True)
    (folder / "demo/checkpoints").symlink_to(ROOT / "demo/checkpoints")
    (shapes / "panoptic_val").symlink_to(ROOT / "demo/shapes/panoptic_val")
    wanted = {20_000_000 + int(number) for number in IMAGES}
    for path in (ROOT / "demo/shapes/annotations").iterdir():
        document = json.loads(path.read_text())
        document["images"] = [image for image in document["images"] if image["id"] in wanted]
        document["annotations"] = [one for one in document["annotations"] if one["image_id"] in wanted]
        (shapes / "annotations" / path.name).write_text(json.dumps(document))
    (shapes / "val").mkdir()
    for image in document["images"]:
        (shapes / "val" / image["file_name"]).symlink_to(ROOT / "demo/shapes/val" / image["file_name"])
    return folder


def samebox(command):
    """Run a command line of samebox in this process; its output."""
    program, *words = shlex.split(command)
    assert program == "samebox"
    found = [glob(word) if "*" in word else [word] for word in words]
    assert all(found), f"no file is called as in {command}"
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output):
        patch.setattr(sys, "argv", [program, *(path for paths in found for path in sorted(paths))])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert not ended.value.code, f"{command}: {ended.value.code}"
    return output.getvalue()


def test_every_command_is_listed():
    listed = [*RUN, *CHECKED]
    assert len(set(listed)) == len(listed)
    found = {command: named(page) for page in PAGES for command in commands(page)}
    assert {command: page for command, page in found.items() if command not in listed} == {}
    assert [command for command in listed if command not in found] == []


@pytest.mark.parametrize("command", RUN)
def test_a_command_runs(command, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    assert samebox(command)


def test_commands_leave_what_the_pages_say(workplace):
    for path in (
        *("retinanet.onnx", "pictures/detections.json", "drawn/detections.json"),
        *("conf/detector/mine.yaml", "artifacts/mlflow.db"),
        "artifacts/submitted/mask_rcnn_shapes/voc/comp4_det_test_disc.txt",
    ):
        assert (workplace / path).exists(), path
    assert list((workplace / "artifacts/benchmark").glob("*/index.html"))


@pytest.mark.parametrize("command", CHECKED)
def test_a_command_is_read_by_its_parser(command, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    program, *words = (word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word))
    CHECKS[program](words)


def check_samebox(words):
    """Every override has a place in the command's config, and every runtime exists."""
    command, *rest = words
    if command == "predict":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [command, *rest])
            assert parse_arguments().out == Path("drawn")
        return
    overrides = [word for word in rest if word != "-m"]
    config = check(CONFIGS[command], overrides)
    given = dict(word.partition("=")[::2] for word in overrides)
    if "runtimes" in given:
        check_runtimes(yaml.safe_load(given["runtimes"]))
    assert config.detector.name == given.get("detector", "retinanet_shapes")


def check_dvc(words):
    """DVC parses the arguments; a stage is one of dvc.yaml, and a file that is set has the key."""
    from dvc.cli import parse_args

    arguments = parse_args(words)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for target in getattr(arguments, "targets", None) or ():
        assert target.partition("@")[0] in stages or target == "HEAD~1"
    for override in getattr(arguments, "set_param", None) or ():
        file, _, key = override.partition("=")[0].partition(":")
        assert key in yaml.safe_load((ROOT / file).read_text())


def check_make(words):
    """Make has the target."""
    subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, check=True)


def check_python(words):
    """The module has the options."""
    flag, module, *options = words
    assert flag == "-m"
    shown = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for option in options:
        assert option in shown.stdout or not option.startswith("-")


def check_pip(words):
    """The extras of samebox are those of the project."""
    metadata = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    for extra in re.findall(r"(?:samebox|\.)\[([\w-]+)\]", " ".join(words)):
        assert re.search(rf"^{extra} = ", metadata, re.M), extra


def unchecked(words):
    """No parser of ours reads it."""


def check_mlflow(words):
    """MLflow has the command and its options."""
    from mlflow.cli import cli as mlflow

    command, *options = words
    mlflow.get_command(None, command).make_context(command, options, resilient_parsing=True)


CHECKS = {
    "samebox": check_samebox,
    "dvc": check_dvc,
    "make": check_make,
    "python": check_python,
    "pip": check_pip,
    "uv": check_pip,
    "mlflow": check_mlflow,
    "pre-commit": unchecked,
    "echo": unchecked,
}


@pytest.mark.parametrize("page", [page for page in PAGES if code_blocks(page, "python")], ids=named)
def test_python_runs(page, workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    exec(compile("\n".join(code_blocks(page, "python")), str(page), "exec"), {})
    assert capsys.readouterr().out


def test_the_code_of_the_specification_finds_the_same_boxes(workplace, monkeypatch, capsys):
    """The last block of onnx-file.md against samebox.load, on the file that was exported here."""
    import numpy as np

    from samebox import load

    monkeypatch.chdir(workplace)
    names = {}
    exec("\n".join(code_blocks(ROOT / "docs/onnx-file.md", "python")), names)
    with load("retinanet.onnx") as detector:
        expected = detector(Path("demo/shapes/val/000020000000.jpg"))
    assert len(expected) > 10
    for key, values in (("boxes", expected.boxes), ("scores", expected.scores), ("labels", expected.labels)):
        np.testing.assert_array_equal(names["result"][key], values)
