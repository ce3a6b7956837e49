"""The largest values of a row, in an order that every runtime keeps."""

import torch
from torch import Tensor


def stable_topk(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest values of each row of x [B,N] and where they are: [B,count] each, descending.

    Of equal values the one of lower index comes first, as a stable sort has it and as ONNX defines TopK.
    Ties are common: a sigmoid saturates, and the order of equal scores decides what the NMS keeps.
    """
    values, index = x.topk(count)
    if torch.compiler.is_exporting():
        return values, index
    # Eager topk is free to take any of equal values, in any order. Which ones it took matters only where
    # more reach the last value than were wanted; then the whole row is sorted, which is several times
    # slower. Otherwise the few that it took are put in order.
    if ((x >= values[:, -1:]).sum(1) != count).any():
        values, index = x.sort(dim=1, descending=True, stable=True)
        return values[:, :count], index[:, :count]
    index = index.sort(dim=1).values
    values, order = x.gather(1, index).sort(dim=1, descending=True, stable=True)
    return values, index.gather(1, order)
