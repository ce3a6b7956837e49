import onnx
import pytest
from onnx import helper
from tiny_engine import PROFILE, TARGETS
from tiny_onnx import tiny_model

from samebox.core.errors import SameboxError
from samebox.engine.build import engine_from_onnx

pytest.importorskip("tensorrt_rtx")

RTX_DOES_NOT = "TensorRT-RTX does not support this operator"


def with_nodes(path, *nodes, **constants):
    """The tiny detector with more nodes, whose outputs are not used."""
    model = tiny_model()
    model.graph.node.extend(nodes)
    for name, value in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(onnx.numpy_helper.np.array(value), name))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("operator", ["NonMaxSuppression", "RoiAlign", "NonZero", "DeformConv"])
def test_unsupported_operators_are_named_with_a_fix(tmp_path, operator):
    node = helper.make_node(operator, ["chances"], ["selected"], name="node_x")
    source = with_nodes(tmp_path / "model.onnx", node)
    with pytest.raises(SameboxError) as refused:
        engine_from_onnx(source, tmp_path / "model.engine", PROFILE, targets=TARGETS)
    assert str(refused.value) == (
        f"{source}: 1 node does not parse: node_x ({operator}): TensorRT-RTX does not support this "
        "operator, export with export.lowering=portable, which replaces it"
    )


def test_a_large_topk_is_found_inside_a_loop(tmp_path):
    model = tiny_model()
    body = next(node for node in model.graph.node if node.op_type == "Loop").attribute[0].g
    body.node.append(helper.make_node("Constant", [], ["many"], value_ints=[3841]))
    body.node.append(helper.make_node("TopK", ["s", "many"], ["values", "places"], name="node_topk"))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(SameboxError, match=r"node_topk \(TopK\): K=3841 is above 3840, export with"):
        engine_from_onnx(tmp_path / "model.onnx", tmp_path / "model.engine", PROFILE, targets=TARGETS)


def test_errors_of_the_parser_are_reported_by_node(tmp_path):
    scatter = helper.make_node(
        "ScatterND", ["best", "indices", "updates"], ["o"], name="node_scatter", reduction="add"
    )
    unique = helper.make_node("Unique", ["best"], ["u"], name="node_unique")
    source = with_nodes(tmp_path / "model.onnx", scatter, unique, indices=[[0, 0]], updates=[1.0])
    with pytest.raises(SameboxError) as refused:
        engine_from_onnx(source, tmp_path / "model.engine", PROFILE, targets=TARGETS)
    message = str(refused.value)
    hint = "no lowering replaces it, so change the network"
    assert f"2 nodes do not parse: node_unique (Unique): {RTX_DOES_NOT}, {hint}; " in message
    assert "node_scatter (ScatterND): " in message
    assert message.endswith(hint)
    assert "\n" not in message


def test_each_node_has_the_fix_for_its_operator(tmp_path):
    nms = helper.make_node("NonMaxSuppression", ["chances"], ["selected"], name="node_nms")
    unique = helper.make_node("Unique", ["best"], ["u"], name="node_unique")
    source = with_nodes(tmp_path / "model.onnx", nms, unique)
    with pytest.raises(SameboxError) as refused:
        engine_from_onnx(source, tmp_path / "model.engine", PROFILE, targets=TARGETS)
    of_nms, of_unique = str(refused.value).split("; ")
    assert "node_nms" in of_nms
    assert of_nms.endswith("export with export.lowering=portable, which replaces it")
    assert of_unique.startswith("node_unique (Unique)")
    assert "portable" not in of_unique
