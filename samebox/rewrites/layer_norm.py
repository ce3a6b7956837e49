"""LayerNormalization, which opset 17 added, from the operators that 13 knows.

LayerNormalization(x, scale, bias)  →  d = x - ReduceMean(x); d / Sqrt(ReduceMean(d * d) + ε) * scale + bias
"""

from collections.abc import Sequence

import onnx_ir as ir


def rewrite(model: ir.Model) -> bool:
    """Write out every LayerNormalization whose axes are known and whose statistics nobody else wants."""
    changed = False
    for node in list(model.graph.all_nodes()):
        axes = _axes(node) if node.op_type == "LayerNormalization" else None
        if axes is None or len(node.outputs) > 1 or node.graph is None:
            continue
        tape = ir.tape.Tape()
        out = _normalized(tape, node, axes)
        ir.convenience.replace_nodes_and_values(
            node.graph, node, [node], tape.nodes, [node.outputs[0]], [out]
        )
        changed = True
    return changed


def _axes(node: ir.Node) -> list[int] | None:
    """The last axes, counted from the end; None where their number is not known."""
    first = node.attributes.get_int("axis", -1)
    if first >= 0:
        shape = node.inputs[0].shape if node.inputs[0] else None
        if shape is None:
            return None
        first -= len(shape)
    return list(range(first, 0))


def _normalized(tape: ir.tape.Tape, node: ir.Node, axes: list[int]) -> ir.Value:
    x, scale, *bias = node.inputs
    mean: dict[str, int | Sequence[int]] = {"axes": axes, "keepdims": 1}
    centred = tape.op("Sub", [x, tape.op("ReduceMean", [x], mean)])
    variance = tape.op("ReduceMean", [tape.op("Mul", [centred, centred])], mean)
    epsilon = tape.op("Constant", [], {"value_float": node.attributes.get_float("epsilon", 1e-5)})
    deviation = tape.op("Sqrt", [tape.op("Add", [variance, epsilon])])
    out = tape.op("Mul", [tape.op("Div", [centred, deviation]), scale])
    return tape.op("Add", [out, bias[0]]) if bias and bias[0] else out
