"""A node replaced by others, which several rewrites do."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import DTypeLike


class Tape(ir.tape.Tape):
    """Records the nodes that take a node's place."""

    def constant(self, values: Any, dtype: DTypeLike = np.int64) -> ir.Value:
        """A constant in the form that every opset knows."""
        return self.op("Constant", [], {"value": ir.tensor(np.array(values, dtype))})


def replace(node: ir.Node, written: Callable[[Tape], ir.Value]) -> None:
    """Put what `written` records, and its result, in the place of a node of one output."""
    if node.graph is None:
        raise ValueError(f"{node.name} is in no graph")
    tape = Tape()
    out = written(tape)
    for index, one in enumerate(tape.nodes):
        # a subgraph's names must not be those of the graph around it
        one.name = one.outputs[0].name = f"{node.outputs[0].name}_{one.op_type}_{index}"
    ir.convenience.replace_nodes_and_values(node.graph, node, [node], tape.nodes, [node.outputs[0]], [out])
