"""Moves constant axes from an input, as in newer opsets, to an attribute, as in older ones.

ReduceMax(x, axes=[2])                             →  ReduceMax[axes=[2]](x)
ReduceMax[noop_with_empty_axes=1](x) without axes     stays: the identity of opset 18 has no older form
"""

from collections.abc import Collection

import onnx_ir as ir

# Operators whose axes are an input from opset 18 on …
REDUCTIONS = frozenset(
    f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
)
# … and from opset 13 on
OTHERS = frozenset(("ReduceSum", "Squeeze", "Unsqueeze"))


def rewrite(model: ir.Model, operators: Collection[str]) -> bool:
    """Move the constant axes of all nodes of `operators`. Returns whether the graph changed."""
    changed = False
    for node in model.graph.all_nodes():
        if node.op_type not in operators or node.attributes.get_int("noop_with_empty_axes", False):
            continue
        if len(node.inputs) == 2 and node.inputs[1] is not None:
            axes = ir.convenience.get_const_tensor(node.inputs[1])
            if axes is None:
                continue
            node.attributes["axes"] = ir.AttrInt64s("axes", axes.numpy().tolist())
        changed |= _remove_axes_input(node)
    return changed


def _remove_axes_input(node: ir.Node) -> bool:
    changed = len(node.inputs) == 2 or "noop_with_empty_axes" in node.attributes
    if len(node.inputs) == 2:
        node.resize_inputs(1)
    node.attributes.pop("noop_with_empty_axes", None)
    return changed
