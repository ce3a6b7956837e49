"""GreaterOrEqual and LessOrEqual, which opset 12 added.

GreaterOrEqual(a, b)  →  Or(Greater(a, b), Equal(a, b)), which is false of what is no number, too
"""

from functools import partial

import onnx_ir as ir

from samebox.graph.rewrites.node_replacement import Tape, replace

OPERATORS = {"GreaterOrEqual": "Greater", "LessOrEqual": "Less"}


def rewrite(model: ir.Model) -> bool:
    """Write every such comparison as two."""
    changed = False
    for node in list(model.graph.all_nodes()):
        if node.op_type in OPERATORS:
            replace(node, partial(_either, node=node))
            changed = True
    return changed


def _either(tape: Tape, node: ir.Node) -> ir.Value:
    strict = tape.op(OPERATORS[node.op_type], node.inputs)
    return tape.op("Or", [strict, tape.op("Equal", node.inputs)])
