"""Replaces Trilu, which opset 14 introduced, by comparisons of row and column numbers.

Trilu[upper=1](x, k)  →  Where(column > row + (k - 1), x, 0)
"""

from functools import partial

import onnx_ir as ir

from samebox.graph.rewrites.node_replacement import Tape, replace_node


def rewrite(model: ir.Model) -> bool:
    """Replace each Trilu whose type is known. Returns whether the graph changed."""
    changed = False
    for node in list(model.graph.all_nodes()):
        dtype = node.inputs[0].dtype if node.op_type == "Trilu" and node.inputs[0] else None
        if dtype is not None:
            replace_node(node, partial(_masked, node=node, dtype=dtype))
            changed = True
    return changed


def _masked(tape: Tape, node: ir.Node, dtype: ir.DataType) -> ir.Value:
    x = node.inputs[0]
    k = node.inputs[1] if len(node.inputs) > 1 and node.inputs[1] else tape.constant(0)
    shape = tape.op("Shape", [x])
    rows = tape.op("Unsqueeze", [_range(tape, shape, -2), tape.constant([1])])
    upper, columns = node.attributes.get_int("upper", 1), _range(tape, shape, -1)
    border = tape.op("Add", [rows, tape.op("Add", [k, tape.constant(-1 if upper else 1)])])
    kept = tape.op("Greater" if upper else "Less", [columns, border])
    if dtype == ir.DataType.BOOL:
        return tape.op("And", [x, kept])
    return tape.op("Where", [kept, x, tape.constant(0, dtype.numpy())])


def _range(tape: Tape, shape: ir.Value, axis: int) -> ir.Value:
    """0, 1, 2 … along an axis, which is counted from the end."""
    length = tape.op("Gather", [shape, tape.constant(axis)])
    return tape.op("Range", [tape.constant(0), length, tape.constant(1)])
