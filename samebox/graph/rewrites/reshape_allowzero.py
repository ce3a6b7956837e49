"""Removes the attribute allowzero of Reshape, which opset 14 introduced.

With allowzero=1 a 0 in the shape means 0. Otherwise, as in older opsets, it copies the input's dimension.

Reshape[allowzero=1](x, [-1, 4])  →  Reshape(x, [-1, 4])
"""

import onnx_ir as ir


def rewrite(model: ir.Model) -> bool:
    """Remove allowzero unless it is 1 and the shape is constant and contains a 0. Returns whether it did.

    A computed shape contains a 0 only for an empty tensor. Exported graphs have none: batch and canvas are
    not empty, and the number of candidates is fixed.
    """
    changed = False
    for node in model.graph.all_nodes():
        if node.op_type != "Reshape" or "allowzero" not in node.attributes:
            continue
        shape = ir.convenience.get_const_tensor(node.inputs[1]) if node.inputs[1] else None
        if shape is None or not (shape.numpy() == 0).any() or not node.attributes["allowzero"].value:
            del node.attributes["allowzero"]
            changed = True
    return changed
