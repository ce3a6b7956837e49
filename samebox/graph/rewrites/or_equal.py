"""Replaces GreaterOrEqual and LessOrEqual, which opset 12 introduced.

GreaterOrEqual(a, b)  →  Or(Greater(a, b), Equal(a, b)), which is false for NaN as well
"""

from functools import partial

import onnx_ir as ir

from samebox.graph.rewrites.node_replacement import Tape, replace_node

OPERATORS = {"GreaterOrEqual": "Greater", "LessOrEqual": "Less"}


def rewrite(model: ir.Model) -> bool:
    """Replace each GreaterOrEqual and LessOrEqual. Returns whether the graph changed."""
    changed = False
    for node in list(model.graph.all_nodes()):
        if node.op_type in OPERATORS:
            replace_node(node, partial(_greater_or_equal, node=node))
            changed = True
    return changed


def _greater_or_equal(tape: Tape, node: ir.Node) -> ir.Value:
    strict = tape.op(OPERATORS[node.op_type], node.inputs)
    return tape.op("Or", [strict, tape.op("Equal", node.inputs)])
