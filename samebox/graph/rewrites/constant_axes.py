"""Constant axes: from an input, as newer opsets have them, to an attribute, as older ones have.

ReduceMax(x, axes=[2])          →  ReduceMax[axes=[2]](x)
ReduceMax(x, no axes, noop=1)   is the identity in 18 and has no older form: left alone
"""

from collections.abc import Collection

import onnx_ir as ir

# With axes as an input from opset 18 …
REDUCTIONS = frozenset(
    f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
)
# … and from 13
OTHERS = frozenset(("ReduceSum", "Squeeze", "Unsqueeze"))


def rewrite(model: ir.Model, operators: Collection[str]) -> bool:
    """Turn every constant `axes` input of the operators into an attribute."""
    changed = False
    for node in model.graph.all_nodes():
        if node.op_type not in operators or node.attributes.get_int("noop_with_empty_axes", False):
            continue
        if len(node.inputs) == 2 and node.inputs[1] is not None:
            axes = ir.convenience.get_const_tensor(node.inputs[1])
            if axes is None:
                continue
            node.attributes["axes"] = ir.AttrInt64s("axes", axes.numpy().tolist())
        changed |= _drop_input_form(node)
    return changed


def _drop_input_form(node: ir.Node) -> bool:
    had = len(node.inputs) == 2 or "noop_with_empty_axes" in node.attributes
    if len(node.inputs) == 2:
        node.resize_inputs(1)
    node.attributes.pop("noop_with_empty_axes", None)
    return had
