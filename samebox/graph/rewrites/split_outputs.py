"""Removes the attribute num_outputs of Split, which opset 18 introduced; opset 13 counts the outputs.

a, b = Split[num_outputs=2](x)  →  a, b = Split[](x)
"""

import onnx_ir as ir


def rewrite(model: ir.Model) -> bool:
    """Remove num_outputs if all parts are known to be equal. Returns whether the graph changed.

    Opset 13 does not support a smaller last part.
    """
    changed = False
    for node in model.graph.all_nodes():
        if node.op_type != "Split" or "num_outputs" not in node.attributes:
            continue
        shape, axis = node.inputs[0].shape if node.inputs[0] else None, node.attributes.get_int("axis", 0)
        if shape is None or not isinstance(shape[axis], int) or shape[axis] % len(node.outputs):
            continue
        del node.attributes["num_outputs"]
        changed = True
    return changed
