"""What every rewrite's test does: a graph at opset 18 beside its older form."""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, parser

HEADER = '<ir_version: 8, opset_import: ["" : {opset}]>\n'
Arrays = dict[str, NDArray]


def model_at_18(text: str) -> onnx.ModelProto:
    """The graph in ONNX's textual form, its shapes inferred as the exporter's are."""
    return onnx.shape_inference.infer_shapes(parser.parse_model(HEADER.format(opset=18) + text))


def rewritten(
    model: onnx.ModelProto, rewrite: Callable[[ir.Model], bool], opset: int = 16
) -> onnx.ModelProto:
    """`model` at `opset` after a `rewrite`, which must say True, and False when asked again."""
    graph = ir.from_proto(model)
    assert rewrite(graph) is True
    assert rewrite(graph) is False
    older = ir.to_proto(graph)
    older.opset_import[0].version = opset
    onnx.checker.check_model(older, full_check=True)
    return older


def untouched(model: onnx.ModelProto, rewrite: Callable[[ir.Model], bool]) -> bool:
    """Whether `rewrite` says that it changed nothing, and did not."""
    graph = ir.from_proto(model)
    before = ir.to_proto(graph).SerializeToString(deterministic=True)
    changed = rewrite(graph)
    return not changed and ir.to_proto(graph).SerializeToString(deterministic=True) == before


def assert_same_answers(before: onnx.ModelProto, after: onnx.ModelProto, feed: Arrays) -> list[NDArray]:
    """Both graphs give equal outputs, which are returned."""
    answers = []
    for model in (before, after):
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        answers.append(session.run(None, feed))
    for expected, found in zip(*answers, strict=True):
        np.testing.assert_array_equal(found, expected)
    return answers[0]


def attributes(model: onnx.ModelProto, index: int = 0) -> dict[str, object]:
    """The attributes of one node."""
    return {a.name: helper.get_attribute_value(a) for a in model.graph.node[index].attribute}
