import signal
import sys
from collections import Counter

import numpy as np
import onnx
import pytest
from tiny_onnx import METADATA, tiny_file, tiny_model

from samebox.core.errors import SameboxError
from samebox.graph import simplify
from samebox.graph.reading import all_nodes
from samebox.graph.simplify import simplify_onnx

SHAPES = [(1, 64, 96), (3, 96, 64), (2, 128, 160)]


@pytest.fixture
def source(tmp_path):
    return tiny_file(tmp_path / "tiny.onnx")


@pytest.fixture
def child(monkeypatch):
    """A function that replaces the simplifier by Python code, which can use `source` and `target`."""

    def replace(code):
        start = "import sys; source, target = sys.argv[1:];"
        monkeypatch.setattr(
            simplify, "_command", lambda s, t, _: [sys.executable, "-c", start + code, str(s), str(t)]
        )

    return replace


@pytest.fixture(scope="module")
def simplified(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simplified")
    source, target = tiny_file(folder / "tiny.onnx"), folder / "simple.onnx"
    return simplify_onnx(source, target, SHAPES), target


def test_onnxsim_removes_nodes_without_effect(simplified):
    report, target = simplified
    assert report.reason is None
    assert report.simplified
    assert report.before["BatchNormalization"] == report.before["Loop"] == report.after["Loop"] == 1
    assert "BatchNormalization" not in report.after
    assert report.after == Counter(node.op_type for node in all_nodes(onnx.load(target).graph))
    assert sum(report.after.values()) < sum(report.before.values())
    assert report.detections == (1 + 3 + 2) * 8
    assert report.as_dict()["after"] == report.after


def test_the_simplified_graph_has_the_same_interface(simplified):
    expected, simple = tiny_model(), onnx.load(simplified[1])
    assert simple.graph.input == expected.graph.input
    assert simple.graph.output == expected.graph.output
    assert simple.opset_import == expected.opset_import
    assert [(entry.key, entry.value) for entry in simple.metadata_props] == [("samebox", METADATA)]
    dimensions = simple.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param for d in dimensions] == ["batch", "", "height", "width"]


def test_simplification_is_deterministic(simplified, source, tmp_path):
    simplify_onnx(source, tmp_path / "again.onnx", SHAPES[:1])
    assert (tmp_path / "again.onnx").read_bytes() == simplified[1].read_bytes()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("import os; os.abort()", f"killed by {signal.Signals.SIGABRT.name}"),
        (
            "from samebox.graph.simplify import _limit_memory; _limit_memory(900); bytearray(1 << 30)",
            "needs more than 900 MB",
        ),
        ("raise ValueError('first\\nlast')", "the simplifier failed: last"),
        ("pass", "wrote no file"),
        ("open(target, 'w').write('no model')", "invalid"),
    ],
)
def test_the_exported_graph_is_used_if_the_simplifier_fails(source, tmp_path, child, code, reason):
    child(code)
    target = tmp_path / "simple.onnx"
    report = simplify_onnx(source, target, SHAPES, memory_mb=900)
    assert not report.simplified
    assert reason in report.reason
    assert "\n" not in report.reason
    assert target.read_bytes() == source.read_bytes()
    assert report.after == report.before
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.onnx", "simple.onnx"}


def test_a_simplifier_that_hangs_is_killed(source, tmp_path, child):
    child("import time; time.sleep(60)")
    report = simplify_onnx(source, tmp_path / "simple.onnx", SHAPES, seconds=0.5)
    assert report.reason == "the simplifier took more than 0.5 s"
    assert report.seconds < 10
    assert (tmp_path / "simple.onnx").read_bytes() == source.read_bytes()


def change_metadata(model):
    model.metadata_props[0].value += " "


def change_opset(model):
    model.opset_import[0].version = 19


def custom_domain(model):
    model.opset_import.add(domain="com.microsoft", version=1)


def frozen_batch(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def dropped_output(model):
    del model.graph.output[2]


def unsorted_nodes(model):
    node = model.graph.node.pop(0)
    model.graph.node.append(node)


def no_kernel(model):
    model.graph.node[0].op_type = "Acos"
    model.graph.node[0].attribute.add(name="unknown", type=onnx.AttributeProto.INT, i=1)


def other_scores(model):
    model.graph.initializer.add().CopyFrom(onnx.numpy_helper.from_array(np.float32(1.01), "more"))
    model.graph.node[1].input[1] = "more"


def shifted_boxes(model):
    for tensor in model.graph.initializer:
        if tensor.name == "box_size":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.int64(17), "box_size"))


def swapped_sizes(model):
    """Correct only for square images, so that only the check at another shape finds it."""
    gathers = [node for node in model.graph.node if node.output[0] in ("height_1", "width_1")]
    gathers[0].input[1], gathers[1].input[1] = gathers[1].input[1], gathers[0].input[1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (change_metadata, "the metadata changed"),
        (change_opset, "the opset changed from {'': 18} to {'': 19}"),
        (custom_domain, "the opset changed"),
        (frozen_batch, "the inputs changed"),
        (dropped_output, "the outputs changed"),
        (unsorted_nodes, "the simplified graph is invalid"),
        (no_kernel, "invalid"),
        (other_scores, "at 1x3x64x96 the detection of label"),
        (shifted_boxes, "is missing"),
        (swapped_sizes, "is missing"),
    ],
)
def test_a_graph_with_another_interface_or_other_outputs_is_not_used(source, tmp_path, child, change, reason):
    wrong = tiny_model()
    change(wrong)
    onnx.save(wrong, tmp_path / "wrong.onnx")
    child(f"import shutil; shutil.copy({str(tmp_path / 'wrong.onnx')!r}, target)")
    report = simplify_onnx(source, tmp_path / "simple.onnx", SHAPES)
    assert not report.simplified
    assert reason in report.reason
    assert (tmp_path / "simple.onnx").read_bytes() == source.read_bytes()


def test_a_graph_without_detections_cannot_be_checked(tmp_path, child):
    child("import shutil; shutil.copy(source, target)")
    empty = tiny_file(tmp_path / "empty.onnx", bias=-200.0)
    report = simplify_onnx(empty, tmp_path / "simple.onnx", SHAPES)
    assert report.reason == "no detection at any shape, so the two graphs could not be compared"


def test_fixed_dimensions_replace_those_of_the_shapes(tmp_path, child):
    child("import shutil; shutil.copy(source, target)")
    fixed = tiny_file(tmp_path / "fixed.onnx", batch=1, height=64)
    report = simplify_onnx(fixed, tmp_path / "simple.onnx", [(2, 96, 64), (3, 32, 64)])
    assert report.simplified
    assert report.detections == 8


def test_files_and_shapes_that_cannot_be_simplified_are_errors(source, tmp_path):
    (tmp_path / "text.onnx").write_text("no model")
    other = tiny_model()
    other.graph.input[0].name = other.graph.node[0].input[0] = "pixels"
    onnx.save(other, tmp_path / "other.onnx")
    nameless = tiny_model()
    nameless.graph.output[1].name = "best"
    onnx.save(nameless, tmp_path / "nameless.onnx")
    for name, shapes, fault in [
        ("absent.onnx", SHAPES, "no such file"),
        ("text.onnx", SHAPES, "not an ONNX file"),
        ("other.onnx", SHAPES, "not images"),
        ("nameless.onnx", SHAPES, "no output scores"),
        ("tiny.onnx", [], "no shape"),
        ("tiny.onnx", [(1, 8, 8)], "does not run"),
    ]:
        with pytest.raises(SameboxError, match=fault):
            simplify_onnx(tmp_path / name, tmp_path / "simple.onnx", shapes)
    assert not (tmp_path / "simple.onnx").exists()
