"""Replaces LayerNormalization, which opset 17 introduced, by operators of opset 13.

LayerNormalization(x, scale, bias)  →  d = x - ReduceMean(x); d / Sqrt(ReduceMean(d * d) + ε) * scale + bias
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import onnx_ir as ir

from samebox.graph.rewrites.node_replacement import Tape, replace_node


def rewrite(model: ir.Model) -> bool:
    """Replace each LayerNormalization with known axes and one output. Returns whether the graph changed.

    One with more outputs, its mean and deviation, stays.
    """
    changed = False
    for node in list(model.graph.all_nodes()):
        axes = _axes(node) if node.op_type == "LayerNormalization" else None
        if axes is not None and len(node.outputs) == 1:
            replace_node(node, partial(_normalized, node=node, axes=axes))
            changed = True
    return changed


def _axes(node: ir.Node) -> list[int] | None:
    """The normalized axes, counted from the end; None if the rank of the input is unknown."""
    first = node.attributes.get_int("axis", -1)
    if first >= 0:
        shape = node.inputs[0].shape if node.inputs[0] else None
        if shape is None:
            return None
        first -= len(shape)
    return list(range(first, 0))


def _normalized(tape: Tape, node: ir.Node, axes: list[int]) -> ir.Value:
    x, scale, *bias = node.inputs
    attributes: dict[str, int | Sequence[int]] = {"axes": axes, "keepdims": 1}
    centred = tape.op("Sub", [x, tape.op("ReduceMean", [x], attributes)])
    variance = tape.op("ReduceMean", [tape.op("Mul", [centred, centred])], attributes)
    epsilon = tape.constant(node.attributes.get_float("epsilon", 1e-5), np.float32)
    deviation = tape.op("Sqrt", [tape.op("Add", [variance, epsilon])])
    out = tape.op("Mul", [tape.op("Div", [centred, deviation]), scale])
    return tape.op("Add", [out, bias[0]]) if bias and bias[0] else out
