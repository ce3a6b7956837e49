"""Adds the absent inputs roi and scales of Resize: opset 13 made them optional, opset 11 requires empty ones.

Resize(x, , , sizes)  →  Resize(x, [], [], sizes)
"""

import numpy as np
import onnx_ir as ir


def rewrite(model: ir.Model) -> bool:
    """Give each Resize an empty roi and empty scales if it has none. Returns whether the graph changed."""
    changed = False
    for node in list(model.graph.all_nodes()):
        if node.op_type != "Resize" or node.graph is None:
            continue
        for index in (1, 2):
            if node.inputs[index] is None:
                empty = ir.node("Constant", [], {"value": ir.tensor(np.array([], np.float32))})
                empty.outputs[0].name = f"{node.outputs[0].name}_empty_{index}"
                node.graph.insert_before(node, empty)
                node.replace_input_with(index, empty.outputs[0])
                changed = True
    return changed
