"""Axes of Pad: from the input that opset 18 added, to pads for every axis, as 13 wants.

Pad(x of rank 4, pads=[0, 0, 1, 1], value, axes=[2, 3])  →  Pad(x, pads=[0,0,0,0, 0,0,1,1], value)
"""

import numpy as np
import onnx_ir as ir


def rewrite(model: ir.Model) -> bool:
    """Spread the constant pads of every Pad that names its axes."""
    changed = False
    for node in model.graph.all_nodes():
        if node.op_type != "Pad" or len(node.inputs) < 4 or node.inputs[3] is None:
            continue
        pads, axes = _constant(node.inputs[1]), _constant(node.inputs[3])
        shape = node.inputs[0].shape if node.inputs[0] else None
        if pads is None or axes is None or shape is None or node.graph is None:
            continue
        spread = _spread(pads.numpy(), axes.numpy(), len(shape))
        value = ir.Value(name=f"{node.outputs[0].name}_pads", const_value=spread)
        node.graph.initializers.add(value)
        node.replace_input_with(1, value)
        node.resize_inputs(3)
        changed = True
    return changed


def _constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    return ir.convenience.get_const_tensor(value) if value else None


def _spread(pads: np.ndarray, axes: np.ndarray, rank: int) -> ir.TensorProtocol:
    spread = np.zeros((2, rank), np.int64)
    spread[:, axes] = pads.reshape(2, -1)
    return ir.tensor(spread.flatten())
