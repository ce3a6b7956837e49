"""Sizes of a Split: from an input, as opset 13 has them, to an attribute, as 11 has.

a, b = Split(x, [1, 3])  →  a, b = Split[split=[1, 3]](x)
"""

import onnx_ir as ir


def rewrite(model: ir.Model) -> bool:
    """Turn the constant sizes of every Split into an attribute."""
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
