"""LayerNormalization, which opset 17 added, from the operators that 13 knows.

LayerNormalization(x, scale, bias)  →  d = x - ReduceMean(x); d / Sqrt(ReduceMean(d * d) + ε) * scale + bias
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import onnx_ir as ir

from samebox.graph.rewrites.node_replacement import Tape, replace


def rewrite(model: ir.Model) -> bool:
    """Write out every LayerNormalization whose axes are known and whose statistics nobody else wants."""
    changed = False
    for node in list(model.graph.all_nodes()):
        axes = _axes(node) if node.op_type == "LayerNormalization" else None
        if axes is not None and len(node.outputs) == 1:
            replace(node, partial(_normalized, node=node, axes=axes))
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


def _normalized(tape: Tape, node: ir.Node, axes: list[int]) -> ir.Value:
    x, scale, *bias = node.inputs
    mean: dict[str, int | Sequence[int]] = {"axes": axes, "keepdims": 1}
    centred = tape.op("Sub", [x, tape.op("ReduceMean", [x], mean)])
    variance = tape.op("ReduceMean", [tape.op("Mul", [centred, centred])], mean)
    epsilon = tape.constant(node.attributes.get_float("epsilon", 1e-5), np.float32)
    deviation = tape.op("Sqrt", [tape.op("Add", [variance, epsilon])])
    out = tape.op("Mul", [tape.op("Div", [centred, deviation]), scale])
    return tape.op("Add", [out, bias[0]]) if bias and bias[0] else out
