"""Gives Resize empty inputs roi and scales, which opset 13 made optional, and states the number of sizes.

Resize(x, , , sizes)  →  Resize(x, [], [], Reshape(sizes, [4]))

The Reshape states that there are four sizes. Otherwise ONNX Runtime 1.15 to 1.17, which infers no shapes from
operators of opsets 11 and 12, fails with "Number of elements of input 'sizes' (0)".
"""

import numpy as np
import onnx_ir as ir


def rewrite(model: ir.Model) -> bool:
    """Rewrite the inputs of each Resize. Returns whether the graph changed."""
    changed = False
    for node in list(model.graph.all_nodes()):
        if node.op_type == "Resize":
            changed |= _add_empty_inputs(node) | _reshape_sizes(node)
    return changed


def _add_empty_inputs(node: ir.Node) -> bool:
    absent = [index for index in (1, 2) if node.inputs[index] is None]
    for index in absent:
        name = f"{node.outputs[0].name}_empty_{index}"
        node.replace_input_with(index, _constant(node, name, [], np.float32))
    return bool(absent)


def _reshape_sizes(node: ir.Node) -> bool:
    """Reshape computed sizes to one element per dimension, unless a Reshape computes them already."""
    if len(node.inputs) < 4 or node.inputs[0] is None or node.inputs[3] is None:
        return False
    sizes, shape = node.inputs[3], node.inputs[0].shape
    producer = sizes.producer()
    if shape is None or producer is None or producer.op_type in ("Constant", "Reshape"):
        return False
    name = node.outputs[0].name
    reshape = ir.node("Reshape", [sizes, _constant(node, f"{name}_rank", [len(shape)], np.int64)])
    reshape.outputs[0].name = f"{name}_sizes"
    _insert_before(node, reshape)
    node.replace_input_with(3, reshape.outputs[0])
    return True


def _constant(node: ir.Node, name: str, values: list[int], dtype: type) -> ir.Value:
    constant = ir.node("Constant", [], {"value": ir.tensor(np.array(values, dtype))})
    constant.outputs[0].name = name
    _insert_before(node, constant)
    return constant.outputs[0]


def _insert_before(node: ir.Node, new: ir.Node) -> None:
    assert node.graph is not None
    node.graph.insert_before(node, new)
