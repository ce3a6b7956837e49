"""Min, Max and Clip of integers, which opset 12 brought, by comparison.

Max(a, b)         →  Where(a > b, a, b)
Clip(x, low, high)  →  the larger of x and low, then the smaller of that and high
"""

from functools import partial

import onnx_ir as ir

from samebox.graph.rewrites.node_replacement import Tape, replace

OPERATORS = {"Max": "Greater", "Min": "Less"}


def rewrite(model: ir.Model) -> bool:
    """Write out every Min, Max and Clip whose first input is known to be of integers."""
    changed = False
    for node in list(model.graph.all_nodes()):
        dtype = node.inputs[0].dtype if node.op_type in ("Clip", *OPERATORS) and node.inputs[0] else None
        if dtype is not None and dtype.is_integer():
            replace(node, partial(_written_out, node=node))
            changed = True
    return changed


def _written_out(tape: Tape, node: ir.Node) -> ir.Value:
    x, *others = node.inputs
    x = tape.op("Identity", [x])  # of one input alone, that is all
    operators = ("Greater", "Less") if node.op_type == "Clip" else [OPERATORS[node.op_type]] * len(others)
    for operator, other in zip(operators, others, strict=False):
        if other is not None:
            x = tape.op("Where", [tape.op(operator, [x, other]), x, other])
    return x
