"""Emulation of a 16-bit graph in fp32, for a runtime that has no kernels for that type."""

import onnx
from onnx import TensorProto, helper, numpy_helper

from samebox.core.errors import SameboxError
from samebox.precision.achieved import element_types
from samebox.precision.sixteen_bit import SIXTEEN_BIT_TYPES

# Operators that only select, move or clip values: their outputs are rounded because their inputs are.
VALUE_PRESERVING = {
    *("Concat", "Flatten", "Identity", "MaxPool", "Pad", "Relu", "Reshape"),
    *("Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
}
ONNX_TYPES = [onnx_type for onnx_type, _ in SIXTEEN_BIT_TYPES.values()]


def rounded(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A copy of `model` that computes in fp32 and rounds each output of its 16-bit nodes to their type.

    ONNX Runtime's CPU provider has no bf16 kernels. For fp16 it uses its fp32 kernels and does not round
    between two of them, so that such a graph would show the rounding of the weights only. Sums within a
    product stay in fp32, as on a GPU. Raises SameboxError, which starts with `name`, if no node is 16-bit.
    """
    types = element_types(model)
    if not any(types.get(node.output[0]) in ONNX_TYPES for node in model.graph.node):
        raise SameboxError(f"{name}: no part of it is fp16 or bf16; create it with stages.precision")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        onnx_type = types.get(node.output[0])
        if onnx_type not in ONNX_TYPES:
            nodes.append(node)  # a Cast to fp32 stays: its input is fp32 now, so it changes nothing
        elif node.op_type == "Cast":
            nodes += _rounding(node.input[0], node.output[0], onnx_type)
        elif node.op_type in VALUE_PRESERVING:
            nodes.append(node)
        else:
            output = node.output[0]
            node.output[0] = f"{output}_unrounded"
            nodes += [node, *_rounding(node.output[0], output, onnx_type)]
    for tensor in graph.initializer:
        if tensor.data_type in ONNX_TYPES:
            values = numpy_helper.to_array(tensor).astype("float32")
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return copy


def _rounding(source: str, target: str, onnx_type: int) -> list[onnx.NodeProto]:
    """Casts to the type and back."""
    sixteen_bit = f"{target}_sixteen_bit"
    return [
        helper.make_node("Cast", [source], [sixteen_bit], to=onnx_type),
        helper.make_node("Cast", [sixteen_bit], [target], to=TensorProto.FLOAT),
    ]
