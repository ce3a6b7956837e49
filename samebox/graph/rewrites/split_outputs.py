"""Split into equal parts: opset 18 counts them in an attribute, 13 by the outputs themselves.

a, b = Split[num_outputs=2](x)  →  a, b = Split[](x)
"""

import onnx_ir as ir


def rewrite(model: ir.Model) -> bool:
    """Drop `num_outputs`, unless the last part would be smaller, which 13 does not know."""
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
