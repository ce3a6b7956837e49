"""Loops that run in eager PyTorch and export to ONNX Loop and Scan."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan

State = tuple[Tensor, ...]


def while_loop(condition: Callable[..., Tensor], body: Callable[..., State], state: State) -> State:
    """Repeat `state = body(*state)` while `condition(*state)`, a bool scalar, is true. Shapes are constant.

    Only the exporter calls `torch.while_loop`: eagerly it compiles for every new shape, which takes seconds
    for a loop of milliseconds.
    """
    if torch.compiler.is_exporting():
        return torch.while_loop(condition, body, state)
    while condition(*state):
        state = body(*state)
    return state


def map_rows(body: Callable[..., Tensor], fields: State) -> Tensor:
    """Call `body` on one row of all `fields` [R,…] at a time and stack the results: [R,…].

    All results must have the same shape. An exported graph holds the body once, in an ONNX Scan.
    """
    if not torch.compiler.is_exporting():
        return torch.stack([body(*row) for row in zip(*fields, strict=True)])

    def step(state: Tensor, row: State) -> tuple[Tensor, Tensor]:
        return state.clone(), body(*row)

    return scan(step, fields[0].new_zeros(1), fields)[1]  # scan requires a state; this one is unused
