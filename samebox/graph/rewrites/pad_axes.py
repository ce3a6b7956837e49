"""Replaces the axes input of Pad, which opset 18 introduced, by pads for all axes, as opset 13 requires.

Pad(x of rank 4, pads=[0, 0, 1, 1], value, axes=[2, 3])  →  Pad(x, pads=[0,0,0,0, 0,0,1,1], value)
"""

import numpy as np
import onnx_ir as ir


def rewrite(model: ir.Model) -> bool:
    """Replace each axes input if pads, axes and rank are known. Returns whether the graph changed."""
    changed = False
    for node in model.graph.all_nodes():
        if node.op_type != "Pad" or len(node.inputs) < 4 or node.inputs[3] is None:
            continue
        pads, axes = _constant(node.inputs[1]), _constant(node.inputs[3])
        shape = node.inputs[0].shape if node.inputs[0] else None
        if pads is None or axes is None or shape is None or node.graph is None:
            continue
        all_pads = _pads_of_all_axes(pads.numpy(), axes.numpy(), len(shape))
        value = ir.Value(name=f"{node.outputs[0].name}_pads", const_value=all_pads)
        node.graph.initializers.add(value)
        node.replace_input_with(1, value)
        node.resize_inputs(3)
        changed = True
    return changed


def _constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    return ir.convenience.get_const_tensor(value) if value else None


def _pads_of_all_axes(pads: np.ndarray, axes: np.ndarray, rank: int) -> ir.TensorProtocol:
    all_pads = np.zeros((2, rank), np.int64)
    all_pads[:, axes] = pads.reshape(2, -1)
    return ir.tensor(all_pads.flatten())
