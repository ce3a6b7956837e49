"""The largest values of each row, in the same order in PyTorch and in every runtime."""

import torch
from torch import Tensor


def stable_topk(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest values of each row of x [B,N] and their indices: [B,count] each, descending.

    Equal values are ordered by index, as in a stable sort and in ONNX's definition of TopK. Equal scores are
    common because a sigmoid saturates, and their order decides which boxes the NMS keeps.
    """
    values, index = x.topk(count)
    if torch.compiler.is_exporting():
        return values, index
    # Eager topk may return any of several equal values, in any order. Its choice matters only if more values
    # equal the last one than fit; then the whole row is sorted, which is several times slower. Otherwise only
    # the selected values are sorted.
    if ((x >= values[:, -1:]).sum(1) != count).any():
        values, index = x.sort(dim=1, descending=True, stable=True)
        return values[:, :count], index[:, :count]
    index = index.sort(dim=1).values
    values, order = x.gather(1, index).sort(dim=1, descending=True, stable=True)
    return values, index.gather(1, order)
