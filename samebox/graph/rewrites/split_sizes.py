"""Moves constant sizes of Split from an input, as in opset 13, to an attribute, as in opset 11.

a, b = Split(x, [1, 3])  →  a, b = Split[split=[1, 3]](x)
"""

import onnx_ir as ir


def rewrite(model: ir.Model) -> bool:
    """Move the constant sizes of each Split. Returns whether the graph changed."""
    changed = False
    for node in model.graph.all_nodes():
        if node.op_type != "Split" or len(node.inputs) < 2 or node.inputs[1] is None:
            continue
        sizes = ir.convenience.get_const_tensor(node.inputs[1])
        if sizes is not None:
            node.attributes["split"] = ir.AttrInt64s("split", sizes.numpy().tolist())
            node.resize_inputs(1)
            changed = True
    return changed
