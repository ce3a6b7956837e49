"""Constants named by numbers or lists, which opset 12 brought, as tensors.

Constant[value_ints=[1, 2]]  →  Constant[value=int64[2] {1, 2}]
"""

import onnx_ir as ir


def rewrite(model: ir.Model) -> bool:
    """Have every Constant of numbers hold a tensor."""
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
