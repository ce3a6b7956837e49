"""Replaces attributes such as value_ints of Constant, which opset 12 introduced, by a tensor.

Constant[value_ints=[1, 2]]  →  Constant[value=int64[2] {1, 2}]
"""

import onnx_ir as ir


def rewrite(model: ir.Model) -> bool:
    """Give each such Constant a tensor. Returns whether the graph changed."""
    changed = False
    for node in model.graph.all_nodes():
        if node.op_type != "Constant" or "value" in node.attributes:
            continue
        tensor = ir.convenience.get_const_tensor(node.outputs[0])
        if tensor is not None:
            node.attributes.clear()
            node.attributes["value"] = ir.AttrTensor("value", tensor)
            changed = True
    return changed
