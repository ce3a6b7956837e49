"""Replaces the attributes start and end of Shape, which opset 15 introduced, by Slice.

Shape[start=2, end=3](x)  →  Slice(Shape(x), [2], [3])
"""

from functools import partial

import onnx_ir as ir

from samebox.graph.rewrites.node_replacement import Tape, replace_node

# The end of a Slice that takes everything
_END = 2**31 - 1


def rewrite(model: ir.Model) -> bool:
    """Replace each Shape that has start or end. Returns whether the graph changed."""
    changed = False
    for node in list(model.graph.all_nodes()):
        if node.op_type == "Shape" and node.attributes:
            replace_node(node, partial(_sliced, node=node))
            changed = True
    return changed


def _sliced(tape: Tape, node: ir.Node) -> ir.Value:
    whole = tape.op("Shape", node.inputs)
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", _END)
    if (start, end) == (0, _END):
        return whole
    return tape.op("Slice", [whole, tape.constant([start]), tape.constant([end])])
