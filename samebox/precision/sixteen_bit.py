"""Conversion of a part of a graph to fp16 or bf16; the rest stays in fp32."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from samebox.core.errors import SameboxError
from samebox.graph.reading import all_nodes, opset_of
from samebox.precision.rule import same_type_tensors

# Precision → (ONNX type, NumPy type)
SIXTEEN_BIT_TYPES = {
    "fp16": (TensorProto.FLOAT16, np.dtype(np.float16)),
    "bf16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
}


def largest_finite(precision: str) -> float:
    """The largest finite number of a 16-bit type: 65504 for fp16."""
    return float(ml_dtypes.finfo(SIXTEEN_BIT_TYPES[precision][1]).max)


def convert_to_sixteen_bit(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], precision: str) -> None:
    """Change `model` in place so that `nodes`, which belong to its graph, compute in `precision`.

    Cast nodes stand where a value enters or leaves the converted part; weights are stored in the new type.
    A converted tensor gets the suffix of the precision. The fp32 tensor keeps its name if other nodes, a
    subgraph or an output of the graph read it, so inputs, outputs and subgraphs do not change. Raises
    SameboxError if an operator does not support the type at the model's opset.
    """
    opset, graph = opset_of(model), model.graph
    check_supported(nodes, opset, precision)
    onnx_type, _ = SIXTEEN_BIT_TYPES[precision]
    converted = {node.output[0] for node in nodes}
    written = {name for node in nodes for name in same_type_tensors(node, opset)[1]}
    entering = {name for node in nodes for name in same_type_tensors(node, opset)[0]} - written
    read_in_fp32 = _tensors_read_in_fp32(graph, converted, opset)
    leaving = written.intersection(read_in_fp32)
    _convert_weights(graph, entering, read_in_fp32, precision)

    def casts(names: Collection[str]) -> Iterator[onnx.NodeProto]:
        for name in names:
            if name in leaving:
                yield _cast(_converted_name(name, precision), name, TensorProto.FLOAT)
            if name in entering:
                yield _cast(name, _converted_name(name, precision), onnx_type)

    ordered = list(casts([value.name for value in graph.input]))
    for node in graph.node:
        names = list(node.output)
        if names[0] in converted:
            _rename_tensors(node, opset, precision)
        ordered += [node, *casts(names)]
    del graph.node[:]
    graph.node.extend(ordered)
    del graph.value_info[:]  # it still states the types from before the conversion


def converted_tensor(name: str, producers: Mapping[str, onnx.NodeProto]) -> str | None:
    """The tensor that holds, after `convert_to_sixteen_bit`, the value that `name` held before.

    `producers` maps each tensor of the converted graph to the node that writes it. None if the graph no
    longer computes that value.
    """
    candidates = (_converted_name(name, precision) for precision in SIXTEEN_BIT_TYPES)
    # a converted tensor that is cast from `name` itself is a copy for the converted part
    moved = (tensor for tensor in candidates if tensor in producers and name not in producers[tensor].input)
    return next(moved, name if name in producers else None)


def check_supported(nodes: Sequence[onnx.NodeProto], opset: int, precision: str) -> None:
    """Raises SameboxError if an operator of `nodes` does not support `precision` at `opset`.

    The error names the first opset at which it does, if there is one.
    """
    for operator in dict.fromkeys(node.op_type for node in nodes):
        if _supports(operator, opset, precision):
            continue
        newer = range(opset + 1, onnx.defs.onnx_opset_version() + 1)
        first = next((candidate for candidate in newer if _supports(operator, candidate, precision)), None)
        hint = f"set precision.opset={first}" if first else f"add {operator} to precision.keep"
        raise SameboxError(f"precision: {operator} does not support {precision} at opset {opset}; {hint}")


def _supports(operator: str, opset: int, precision: str) -> bool:
    schema = onnx.defs.get_schema(operator, opset)
    allowed = next(
        c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == schema.outputs[0].type_str
    )
    return f"tensor({SIXTEEN_BIT_TYPES[precision][1].name})" in allowed


def _tensors_read_in_fp32(graph: onnx.GraphProto, converted: Collection[str], opset: int) -> set[str]:
    """The tensors that outputs of the graph, nodes outside the converted part and subgraphs read."""
    read = {value.name for value in graph.output}
    for node in graph.node:
        if node.output[0] in converted:
            read.update(set(node.input).difference(same_type_tensors(node, opset)[0]))
            continue
        read.update(node.input)
        for attribute in node.attribute:
            read.update(value.name for value in attribute.g.output)
            read.update(name for inner in all_nodes(attribute.g) for name in inner.input)
            read.update(
                value.name
                for inner in all_nodes(attribute.g)
                for a in inner.attribute
                for value in a.g.output
            )
    return read


def _convert_weights(
    graph: onnx.GraphProto, entering: set[str], read_in_fp32: Collection[str], precision: str
) -> None:
    """Store the weights among `entering` in the 16-bit type and remove them from `entering`.

    A weight that nothing reads in fp32 any more is removed from the graph.
    """
    for tensor in [tensor for tensor in graph.initializer if tensor.name in entering]:
        values = numpy_helper.to_array(tensor).astype(SIXTEEN_BIT_TYPES[precision][1])
        graph.initializer.append(numpy_helper.from_array(values, _converted_name(tensor.name, precision)))
        entering.remove(tensor.name)
        if tensor.name not in read_in_fp32:
            graph.initializer.remove(tensor)


def _converted_name(name: str, precision: str) -> str:
    return f"{name}_{precision}"


def _cast(source: str, target: str, onnx_type: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=onnx_type)


def _rename_tensors(node: onnx.NodeProto, opset: int, precision: str) -> None:
    """Make the node read and write the converted tensors."""
    inputs, outputs = same_type_tensors(node, opset)
    for names, converted in ((node.input, inputs), (node.output, outputs)):
        names[:] = [_converted_name(name, precision) if name in converted else name for name in names]
