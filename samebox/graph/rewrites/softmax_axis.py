"""Softmax along an axis other than the last, which opset 13 brought: older ones take all axes from there on.

Softmax[axis=1](x)  →  e = Exp(x - ReduceMax(x)); e / ReduceSum(e)
"""

from functools import partial

import onnx_ir as ir

from samebox.graph.rewrites.node_replacement import Tape, replace


def rewrite(model: ir.Model) -> bool:
    """Have every Softmax name its axis as older opsets do, or write it out."""
    changed = False
    for node in list(model.graph.all_nodes()):
        shape = node.inputs[0].shape if node.op_type == "Softmax" and node.inputs[0] else None
        if shape is None:
            continue
        axis = node.attributes.get_int("axis", -1)
        if axis not in (-1, len(shape) - 1):
            replace(node, partial(_written_out, node=node, axis=axis))
            changed = True
        elif "axis" not in node.attributes:  # the default was 1 before
            node.attributes["axis"] = ir.AttrInt64("axis", -1)
            changed = True
    return changed


def _written_out(tape: Tape, node: ir.Node, axis: int) -> ir.Value:
    along: dict[str, int | list[int]] = {"axes": [axis], "keepdims": 1}
    x = node.inputs[0]
    exponentials = tape.op("Exp", [tape.op("Sub", [x, tape.op("ReduceMax", [x], along)])])
    return tape.op("Div", [exponentials, tape.op("ReduceSum", [exponentials], along)])
