"""Replaces Softmax along an axis other than the last, which opset 13 introduced.

In older opsets Softmax normalizes over the axis and all after it together, and the default axis is 1.

Softmax[axis=1](x)  →  e = Exp(x - ReduceMax(x)); e / ReduceSum(e)
"""

from functools import partial

import onnx_ir as ir

from samebox.graph.rewrites.node_replacement import Tape, replace_node


def rewrite(model: ir.Model) -> bool:
    """Set axis=-1 for each Softmax along the last axis and replace the others. Returns whether it did."""
    changed = False
    for node in list(model.graph.all_nodes()):
        shape = node.inputs[0].shape if node.op_type == "Softmax" and node.inputs[0] else None
        if shape is None:
            continue
        axis = node.attributes.get_int("axis", -1)
        if axis not in (-1, len(shape) - 1):
            replace_node(node, partial(_exponentials, node=node, axis=axis))
            changed = True
        elif "axis" not in node.attributes:  # -1 is the default only from opset 13 on
            node.attributes["axis"] = ir.AttrInt64("axis", -1)
            changed = True
    return changed


def _exponentials(tape: Tape, node: ir.Node, axis: int) -> ir.Value:
    attributes: dict[str, int | list[int]] = {"axes": [axis], "keepdims": 1}
    x = node.inputs[0]
    exponentials = tape.op("Exp", [tape.op("Sub", [x, tape.op("ReduceMax", [x], attributes)])])
    return tape.op("Div", [exponentials, tape.op("ReduceSum", [exponentials], attributes)])
