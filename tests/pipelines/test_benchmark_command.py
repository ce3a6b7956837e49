"""`samebox benchmark`: what it composes for the chain, without running it."""

import json
import sys

import demo_forms
import pytest
import torch

from pipelines import benchmark, chain
from samebox.core.files import sha256
from stages import search
from stages.compose import guarded, plain

CHECKPOINT = demo_forms.CHECKPOINT
CLASSES = ["disc", "square", "triangle", "star", "ring", "cross"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Annotations whose categories are not in the order of their ids, and the folder of their images."""
    folder = tmp_path_factory.mktemp("data")
    demo_forms.small_set(folder)
    path = folder / "annotations.json"
    document = json.loads(path.read_text())
    document["categories"].reverse()
    path.write_text(json.dumps(document))
    return ["--data", str(path), "--images", str(folder / "val")]


@pytest.fixture
def composed(data, tmp_path, monkeypatch):
    """Runs the command with a chain that only keeps its config, and returns that."""
    configs = []
    monkeypatch.chdir(demo_forms.ROOT)
    monkeypatch.setattr(chain, "run", lambda config, command: configs.append((config, command)))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["samebox benchmark", *map(str, arguments)])
        benchmark.main()
        ((config, command),) = configs
        assert command == "benchmark"
        return config

    return run


@pytest.fixture
def unknown(monkeypatch):
    """No choice of conf/detector names the hash of any checkpoint."""
    monkeypatch.setattr(benchmark, "detectors_of", lambda path: [])


def test_the_detector_is_found_by_the_hash_of_the_checkpoint(composed, data):
    config = composed(CHECKPOINT, *data, "export.opset=20")
    assert config.detector.name == "retinanet_shapes"
    assert config.detector.source == str(CHECKPOINT)
    assert config.detector.sha256 == sha256(CHECKPOINT)
    assert config.detector.published == {}
    assert config.runtimes == ["torch", "onnx", "simplified"]
    assert config.out == "artifacts/benchmark/retinanet_shapes"
    assert config.export.opset == 20
    dataset = plain(config.dataset)
    assert dataset.pop("class_names") == CLASSES
    assert dataset.pop("sha256") == sha256(data[1])
    assert dataset == {
        "name": "annotations",
        "images": data[3],
        "annotations": data[1],
        "archives": [],
        "stuff_class_names": ["sky", "field", "water"],
    }


def test_the_config_in_the_checkpoint_is_adopted_and_leaves_no_file(composed, data, unknown, capsys):
    before = search.choices("detector")
    config = composed(CHECKPOINT, *data, "--out", "elsewhere", "compare.images=2")
    assert config.detector.name == "retinanet_shapes"
    assert config.detector.licence == "unknown"
    assert config.detector.network.neck.out_channels == 64
    assert list(config.dataset.class_names) == CLASSES
    assert config.out == "elsewhere"
    assert config.compare.images == 2
    assert capsys.readouterr().out == "adopted the config in retinanet_shapes.pth: retinanet\n"
    assert search.choices("detector") == before


def test_forms_are_runtimes_and_engine_stands_for_tensorrt_rtx(composed, data):
    config = composed(CHECKPOINT, "--formats", "onnx,engine,int8,onnx,onnxruntime_cuda_fp16", *data)
    assert config.runtimes == ["onnx", "tensorrt_rtx", "int8", "onnxruntime_cuda_fp16"]


def test_a_named_detector_takes_another_checkpoint(composed, data, tmp_path):
    checkpoint = tmp_path / "own.pth"
    torch.save({"state_dict": {"a": torch.zeros(1)}}, checkpoint)
    config = composed("--detector", "fcos_shapes", *data, checkpoint)
    assert (config.detector.name, config.detector.source) == ("fcos_shapes", str(checkpoint))
    assert config.detector.sha256 == sha256(checkpoint)


MISTAKES = {
    "no arguments": (
        [],
        r"the following arguments are required: --data, --images; see samebox benchmark --help",
    ),
    "no checkpoint given": (["DATA"], "the following arguments are required: CHECKPOINT"),
    "unknown option": ([CHECKPOINT, "DATA", "--format", "onnx"], "unrecognized arguments: --format"),
    "detector and config": (
        [CHECKPOINT, "DATA", "--detector", "a", "--config", "b"],
        "argument --config: not allowed with argument --detector",
    ),
    "form that is not supported": (
        [CHECKPOINT, "DATA", "--formats", "torch,openvino"],
        "--formats: openvino is not supported yet",
    ),
    "unknown form": (
        [CHECKPOINT, "DATA", "--formats", "torch,onxx"],
        "--formats: 'onxx' is none of engine, bf16, fp16, int8, onnx",
    ),
    "key of an option": ([CHECKPOINT, "DATA", "runtimes=[torch]"], r"runtimes=\[torch\]: use --formats; see"),
    "unknown key": ([CHECKPOINT, "DATA", "opset=17"], "opset: no such key; did you mean export.opset or"),
    "choice that the chain lacks": ([CHECKPOINT, "DATA", "precision=fp16"], "write runtimes="),
    "unknown detector": ([CHECKPOINT, "DATA", "--detector", "none"], "Could not find 'detector/none'"),
    "no checkpoint": (["none.pth", "DATA"], r"none\.pth: no such file"),
    "no annotations": ([CHECKPOINT, "--data", "none.json", "--images", "."], r"none\.json: no such file"),
    "no images": ([CHECKPOINT, "--data", "DATA/annotations.json", "--images", "none"], "none: no such file"),
    "other images": (
        [CHECKPOINT, "--data", "DATA/annotations.json", "--images", "demo"],
        r"demo/000020000000\.jpg: no such file; put the data set's images there",
    ),
    "no config": (["HERE/weights.pth", "DATA"], r"weights\.pth: .*; name one with --detector or --config"),
    "no objects": (
        [CHECKPOINT, "--data", "HERE/empty.json", "--images", "DATA/val"],
        r"empty\.json: has no annotations",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_one_line(name, data, tmp_path, monkeypatch, capsys):
    arguments, message = MISTAKES[name]
    folder = data[3].removesuffix("/val")
    document = json.loads((demo_forms.ROOT / data[1]).read_text()) | {"annotations": []}
    (tmp_path / "empty.json").write_text(json.dumps(document))
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "weights.pth")
    given = []
    for argument in map(str, arguments):
        replaced = argument.replace("DATA/", f"{folder}/").replace("HERE", str(tmp_path))
        given += data if argument == "DATA" else [replaced]
    monkeypatch.chdir(demo_forms.ROOT)
    monkeypatch.setattr(chain, "run", lambda *_: pytest.fail("the chain was run"))
    monkeypatch.setattr(sys, "argv", ["samebox benchmark", *given])
    with pytest.raises(SystemExit, match=message) as end:
        guarded(benchmark.main)
    assert str(end.value).startswith("error: ")
    assert "\n" not in str(end.value)
    assert capsys.readouterr().err == ""
