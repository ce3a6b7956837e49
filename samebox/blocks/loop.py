"""A loop that runs in eager PyTorch and exports to ONNX Loop."""

from collections.abc import Callable

import torch
from torch import Tensor

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
