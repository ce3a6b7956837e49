import json

import pytest
from small_network import changed, scaled_weight, small_file

from pipelines import bisect, chain
from samebox.core.errors import SameboxError
from stages.compose import compose


@pytest.fixture
def files(tmp_path):
    source = small_file(tmp_path / "source.onnx")
    return source, changed(source, tmp_path / "fault.onnx", scaled_weight("network.body.weight", 1.5, (0,)))


def test_two_files_are_compared_without_a_step_of_the_chain(files, tmp_path, monkeypatch, capsys):
    for name in ("with_checkpoint", "with_simplified"):
        monkeypatch.setattr(bisect, name, lambda config: pytest.fail("a step was run"))
    source, fault = files
    bisect.run(compose("bisect", [f"from={source}", f"to={fault}", f"out={tmp_path}/b.json"]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"retinanet_shapes: {source} → {fault}"
    assert lines[1] == "module outputs with an own error above 0.0001 standard deviations: 1 of 7"
    assert lines[2].startswith("first: network.body (")
    kept = json.loads((tmp_path / "b.json").read_text())
    beyond = [one["module"] for one in kept["boundaries"] if one["own"]["largest"] > kept["tolerance"]]
    assert beyond == ["network.body"]


def test_a_form_is_what_the_chain_makes_of_it(tmp_path, monkeypatch):
    steps = []

    def step(config, name, inputs, stage, output=None):
        steps.append(name)
        return str(tmp_path / name)

    monkeypatch.setattr(chain, "run_once", step)
    monkeypatch.setattr(chain, "file_hash", lambda *_arguments: {})
    config = bisect.with_forms(compose("bisect", ["to=int8", "precision.method=entropy"]))
    assert bisect.onnx_path(config, "int8") == tmp_path / "int8/retinanet_shapes/model.onnx"
    assert bisect.onnx_path(config, "simplified") == tmp_path / "simplified/retinanet_shapes/model.onnx"
    assert steps == ["torch", "onnx", "simplified", "int8"]
    steps.clear()
    bisect.with_forms(compose("bisect", ["from=torch", "to=mine.onnx"]))
    assert steps == ["torch"]


ENGINE = "from: 'tensorrt_rtx' is none of torch, onnx, simplified, fp16, bf16, int8, nor an ONNX file; the "


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["to=keras"], "to: 'keras' is none of onnx, simplified, fp16, bf16, int8, nor an ONNX file; "),
        (["to=torch"], "to: 'torch' is none of onnx"),
        (["from=tensorrt_rtx"], ENGINE),
        (["from=none.onnx", "to=none.onnx"], "none.onnx: no such file; check the path"),
        (["bisect.images=0"], "bisect.images: 0: give a number from 1 up"),
        (["bisect.tolerance=small"], "bisect.tolerance: 'small' is not a number"),
    ],
)
def test_a_mistake_is_an_error_before_any_step_runs(overrides, message, tmp_path, monkeypatch):
    monkeypatch.setattr(chain, "run_once", lambda *_arguments: pytest.fail("a step was run"))
    with pytest.raises(SameboxError) as error:
        bisect.run(compose("bisect", [*overrides, f"out={tmp_path}/b.json"]))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "b.json").exists()
