"""Replaces Min, Max and Clip of integers, which opset 12 introduced, by comparisons.

Max(a, b)           →  Where(Greater(a, b), a, b)
Clip(x, low, high)  →  y = Where(Greater(x, low), x, low); Where(Less(y, high), y, high)
"""

from functools import partial

import onnx_ir as ir

from samebox.graph.rewrites.node_replacement import Tape, replace_node

OPERATORS = {"Max": "Greater", "Min": "Less"}


def rewrite(model: ir.Model) -> bool:
    """Replace each Min, Max and Clip whose first input is known to be integer. Returns whether it did."""
    changed = False
    for node in list(model.graph.all_nodes()):
        dtype = node.inputs[0].dtype if node.op_type in ("Clip", *OPERATORS) and node.inputs[0] else None
        if dtype is not None and dtype.is_integer():
            replace_node(node, partial(_compared, node=node))
            changed = True
    return changed


def _compared(tape: Tape, node: ir.Node) -> ir.Value:
    x, *others = node.inputs
    x = tape.op("Identity", [x])  # the whole result if there is only one input
    operators = ("Greater", "Less") if node.op_type == "Clip" else [OPERATORS[node.op_type]] * len(others)
    for operator, other in zip(operators, others, strict=False):
        if other is not None:
            x = tape.op("Where", [tape.op(operator, [x, other]), x, other])
    return x
