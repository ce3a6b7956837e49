"""A part of a graph in a 16-bit type, the rest in fp32 as it was."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from samebox.core.errors import SameboxError
from samebox.graph.reading import all_nodes, opset_of
from samebox.precision.rule import typed

# ONNX's type and NumPy's
HALVES = {
    "fp16": (TensorProto.FLOAT16, np.dtype(np.float16)),
    "bf16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
}


def largest(precision: str) -> float:
    """The largest finite number of a 16-bit type."""
    return float(ml_dtypes.finfo(HALVES[precision][1]).max)


def put_in_half(model: onnx.ModelProto, region: Sequence[onnx.NodeProto], precision: str) -> None:
    """Change `model` so that the nodes of `region`, which are its own, compute in `precision`.

    Casts stand where a value enters or leaves; weights are stored in the type. What a node gave keeps its
    name and type for all others, so that inputs, outputs and subgraphs are as before. Raises SameboxError
    where an operator does not take the type at the model's opset.
    """
    opset, graph = opset_of(model), model.graph
    check_taken(region, opset, precision)
    kind, _ = HALVES[precision]
    inside = {node.output[0] for node in region}
    made = {name for node in region for name in typed(node, opset)[1]}
    entering = {name for node in region for name in typed(node, opset)[0]} - made
    leaving = made.intersection(_used_elsewhere(graph, inside, opset))
    _store_weights(graph, entering, _used_elsewhere(graph, inside, opset), precision)

    def casts(names: Collection[str]) -> Iterator[onnx.NodeProto]:
        for name in names:
            if name in leaving:
                yield _cast(_half(name, precision), name, TensorProto.FLOAT)
            if name in entering:
                yield _cast(name, _half(name, precision), kind)

    nodes = list(casts([value.name for value in graph.input]))
    for node in graph.node:
        names = list(node.output)
        if names[0] in inside:
            _rename(node, opset, precision)
        nodes += [node, *casts(names)]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]  # their types are those of before


def stands_for(name: str, producers: Mapping[str, onnx.NodeProto]) -> str | None:
    """The tensor that holds, since `put_in_half`, what `name` held before, or None where none does.

    `producers` are the nodes of the graph by what they give.
    """
    halves = (_half(name, precision) for precision in HALVES)
    moved = (half for half in halves if half in producers and name not in producers[half].input)
    return next(moved, name if name in producers else None)


def check_taken(region: Sequence[onnx.NodeProto], opset: int, precision: str) -> None:
    """Raise SameboxError where an operator does not take `precision` at `opset`, with the first that does."""
    for operator in dict.fromkeys(node.op_type for node in region):
        if _takes(operator, opset, precision):
            continue
        newer = range(opset + 1, onnx.defs.onnx_opset_version() + 1)
        first = next((one for one in newer if _takes(operator, one, precision)), None)
        mend = f"set precision.opset={first}" if first else f"leave {operator} out of the precision's list"
        raise SameboxError(f"precision: {operator} takes no {precision} at opset {opset}; {mend}")


def _takes(operator: str, opset: int, precision: str) -> bool:
    schema = onnx.defs.get_schema(operator, opset)
    kinds = next(
        c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == schema.outputs[0].type_str
    )
    return f"tensor({HALVES[precision][1].name})" in kinds


def _used_elsewhere(graph: onnx.GraphProto, inside: Collection[str], opset: int) -> set[str]:
    """The tensors that are read in fp32: by nodes outside, those of subgraphs among them, and as outputs."""
    used = {value.name for value in graph.output}
    for node in graph.node:
        if node.output[0] in inside:
            used.update(set(node.input).difference(typed(node, opset)[0]))
            continue
        used.update(node.input)
        for attribute in node.attribute:
            used.update(value.name for value in attribute.g.output)
            used.update(name for inner in all_nodes(attribute.g) for name in inner.input)
            used.update(
                value.name
                for inner in all_nodes(attribute.g)
                for a in inner.attribute
                for value in a.g.output
            )
    return used


def _store_weights(
    graph: onnx.GraphProto, entering: set[str], elsewhere: Collection[str], precision: str
) -> None:
    """Store the weights among `entering` in the type, and take them out of it; what nobody reads goes."""
    for tensor in [tensor for tensor in graph.initializer if tensor.name in entering]:
        values = numpy_helper.to_array(tensor).astype(HALVES[precision][1])
        graph.initializer.append(numpy_helper.from_array(values, _half(tensor.name, precision)))
        entering.remove(tensor.name)
        if tensor.name not in elsewhere:
            graph.initializer.remove(tensor)


def _half(name: str, precision: str) -> str:
    return f"{name}_{precision}"


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=kind)


def _rename(node: onnx.NodeProto, opset: int, precision: str) -> None:
    """Have the node read and give the tensors of the type."""
    taken, given = typed(node, opset)
    for names, own in ((node.input, taken), (node.output, given)):
        names[:] = [_half(name, precision) if name in own else name for name in names]
