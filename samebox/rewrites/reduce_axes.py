"""Axes of a reduction: from an input, as opset 18 has them, to an attribute, as 13 has.

    ReduceMax(x, axes=[2])          →  ReduceMax[axes=[2]](x)
    ReduceMax(x, no axes, noop=1)   is the identity in 18 and has no older form: left alone

ReduceSum takes its axes as an input in 13 already.
"""

import onnx_ir as ir

OPERATORS = {
    f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
}


def rewrite(model: ir.Model) -> bool:
    """Turn every constant `axes` input of a reduction into an attribute."""
    changed = False
    for node in model.graph.all_nodes():
        if node.op_type not in OPERATORS or node.attributes.get_int("noop_with_empty_axes", False):
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
