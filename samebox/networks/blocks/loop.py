"""Loops that run in eager PyTorch and export to ONNX Loop and Scan."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan

State = tuple[Tensor, ...]


def while_loop(condition: Callable[..., Tensor], body: Callable[..., State], state: State) -> State:
    """`state = body(*state)` while `condition(*state)`, a bool scalar, holds; shapes must not change.

    `torch.while_loop` is for the exporter alone: called eagerly it compiles for every new shape, which
    takes seconds where the loop itself takes milliseconds.
    """
    if torch.compiler.is_exporting():
        return torch.while_loop(condition, body, state)
    while condition(*state):
        state = body(*state)
    return state


def map_rows(body: Callable[..., Tensor], fields: State) -> Tensor:
    """What `body` makes of the rows of `fields` [R,…], one row of each at a time, stacked: [R,…].

    Rows must be alike in shape, and so must the results. In a graph the body stands once, in an ONNX Scan.
    """
    if not torch.compiler.is_exporting():
        return torch.stack([body(*row) for row in zip(*fields, strict=True)])

    def step(state: Tensor, row: State) -> tuple[Tensor, Tensor]:
        return state.clone(), body(*row)

    return scan(step, fields[0].new_zeros(1), fields)[1]  # it asks for a state, and here there is none
