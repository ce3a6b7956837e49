"""A 16-bit graph for a machine whose runtime has no kernels of that type: fp32, rounded after every step."""

import onnx
from onnx import TensorProto, helper, numpy_helper

from samebox.core.errors import SameboxError
from samebox.precision.achieved import element_types
from samebox.precision.half import HALVES

# These give values that they were given, which are rounded already
MOVING = {
    *("Concat", "Flatten", "Identity", "MaxPool", "Pad", "Relu", "Reshape"),
    *("Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
}
KINDS = [kind for kind, _ in HALVES.values()]


def rounded(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A copy of `model` that computes in fp32 and rounds what each of its 16-bit nodes gives to their type.

    ONNX Runtime's CPU provider has no bf16 kernels, and for fp16 takes its fp32 ones without rounding what
    lies between two of them: as it is, such a graph would tell of the weights' rounding alone. Sums within a
    product stay fp32, as a GPU has them. Raises SameboxError, naming `name`, for a graph without such.
    """
    types = element_types(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        kind = types.get(node.output[0])
        if kind not in KINDS:
            nodes.append(node)  # a Cast to fp32, of what is rounded fp32 by now, does nothing
        elif node.op_type == "Cast":
            nodes += _rounding(node.input[0], node.output[0], kind)
        elif node.op_type in MOVING:
            nodes.append(node)
        else:
            result = node.output[0]
            node.output[0] = f"{result}_unrounded"
            nodes += [node, *_rounding(node.output[0], result, kind)]
    if not any(types.get(node.output[0]) in KINDS for node in model.graph.node):
        raise SameboxError(f"{name}: no part of it is fp16 or bf16; make it with stages.precision")
    for tensor in graph.initializer:
        if tensor.data_type in KINDS:
            values = numpy_helper.to_array(tensor).astype("float32")
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return copy


def _rounding(source: str, target: str, kind: int) -> list[onnx.NodeProto]:
    """To the type and back."""
    there = f"{target}_there"
    return [
        helper.make_node("Cast", [source], [there], to=kind),
        helper.make_node("Cast", [there], [target], to=TensorProto.FLOAT),
    ]
