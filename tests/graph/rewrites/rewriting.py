"""Shared parts of the tests of rewrites: a minimal graph at opset 18 compared with its rewritten form."""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, parser

HEADER = '<ir_version: 8, opset_import: ["" : {opset}]>\n'
Arrays = dict[str, NDArray]

# x [2,3,4] float and n [2,3] int64, negative and positive
X = {"x": np.arange(-12, 12, dtype=np.float32).reshape(2, 3, 4)}
N = {"n": np.array([[3, -4, 5], [0, 7, -1]])}


def model_at_18(text: str) -> onnx.ModelProto:
    """The graph in ONNX's textual syntax, with shape inference, as at_opset applies it."""
    return onnx.shape_inference.infer_shapes(parser.parse_model(HEADER.format(opset=18) + text))


def rewritten(
    model: onnx.ModelProto, rewrite: Callable[[ir.Model], bool], opset: int = 16
) -> onnx.ModelProto:
    """`model` at `opset` after `rewrite`, which must return True, and False when it is applied again."""
    graph = ir.from_proto(model)
    assert rewrite(graph) is True
    assert rewrite(graph) is False
    older = ir.to_proto(graph)
    older.opset_import[0].version = opset
    onnx.checker.check_model(older, full_check=True)
    return older


def is_unchanged(model: onnx.ModelProto, rewrite: Callable[[ir.Model], bool]) -> bool:
    """Whether `rewrite` returns False and does not change the graph."""
    graph = ir.from_proto(model)
    before = ir.to_proto(graph).SerializeToString(deterministic=True)
    changed = rewrite(graph)
    return not changed and ir.to_proto(graph).SerializeToString(deterministic=True) == before


def outputs_of(model: onnx.ModelProto, feed: Arrays) -> list[NDArray]:
    """ONNX Runtime's outputs."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feed)


def assert_same_outputs(before: onnx.ModelProto, after: onnx.ModelProto, feed: Arrays) -> list[NDArray]:
    """Check that both graphs give equal outputs, not all zero, and return them."""
    expected = outputs_of(before, feed)
    for one, other in zip(expected, outputs_of(after, feed), strict=True):
        np.testing.assert_array_equal(other, one)
    assert any(np.any(output) for output in expected)
    return expected


def operators(model: onnx.ModelProto) -> list[str]:
    """The operators of the graph in order."""
    return [node.op_type for node in model.graph.node]


def attributes(model: onnx.ModelProto, index: int = 0) -> dict[str, object]:
    """The attributes of one node."""
    return {a.name: helper.get_attribute_value(a) for a in model.graph.node[index].attribute}
