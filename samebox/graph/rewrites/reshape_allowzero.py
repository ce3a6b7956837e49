"""A 0 in the shape that Reshape takes: opset 14 lets it mean 0, older ones copy the input's dimension there.

Reshape[allowzero=1](x, [-1, 4])  →  Reshape(x, [-1, 4])
"""

import onnx_ir as ir


def rewrite(model: ir.Model) -> bool:
    """Drop `allowzero` of every Reshape but those whose shape is known to hold a 0.

    A shape that is computed holds one only where the tensor is empty, and an export has none of those:
    neither a batch nor a canvas is, and candidates are of fixed number.
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
