"""Replacement of one node by several."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import DTypeLike


class Tape(ir.tape.Tape):
    """Records the nodes that replace a node."""

    def constant(self, values: Any, dtype: DTypeLike = np.int64) -> ir.Value:
        """A Constant with a tensor, which every opset supports."""
        return self.op("Constant", [], {"value": ir.tensor(np.array(values, dtype))})


def replace_node(node: ir.Node, record: Callable[[Tape], ir.Value]) -> None:
    """Replace a node with one output by the nodes that `record` records, which returns the new output."""
    if node.graph is None:
        raise ValueError(f"{node.name} is in no graph")
    tape = Tape()
    out = record(tape)
    for index, new in enumerate(tape.nodes):
        # unique names, because a subgraph must not reuse names of the graph around it
        new.name = new.outputs[0].name = f"{node.outputs[0].name}_{new.op_type}_{index}"
    ir.convenience.replace_nodes_and_values(node.graph, node, [node], tape.nodes, [node.outputs[0]], [out])
