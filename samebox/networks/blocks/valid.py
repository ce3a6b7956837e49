"""Keeps the canvas around an image from influencing the image's results.

A cell is valid if it belongs to its image, and padding otherwise.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class ValidCells:
    """Masks of the valid cells of maps, computed once per stride.

    sizes [B,2]: height and width of the images in pixels. On a map of stride s, ceil(size / s) rows and
    columns are valid.
    """

    def __init__(self, sizes: Tensor) -> None:
        self.sizes = sizes
        self._masks: dict[int, Tensor] = {}

    def __call__(self, x: Tensor, stride: int) -> Tensor:
        """The mask [B,1,H,W] bool of maps x [B,C,H,W] of `stride`."""
        if stride not in self._masks:
            rows = torch.arange(x.shape[2], device=x.device) * stride < self.sizes[:, :1]  # [B,H]
            columns = torch.arange(x.shape[3], device=x.device) * stride < self.sizes[:, 1:]  # [B,W]
            self._masks[stride] = (rows[:, :, None] & columns[:, None, :])[:, None]
        return self._masks[stride]


class GroupNorm(nn.GroupNorm):
    """PyTorch's GroupNorm; given a mask of valid cells, its statistics are over these only."""

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """x [B,C,H,W] → the same shape; with `valid` [B,1,H,W] bool, 0 in all other cells."""
        if valid is None:
            return super().forward(x)
        grouped, mask = x.unflatten(1, (self.num_groups, -1)), valid[:, None]  # [B,G,C/G,H,W], [B,1,1,H,W]
        # at least 1, because an image without area has no valid cell
        count = (mask.sum((2, 3, 4), keepdim=True) * grouped.shape[2]).clamp(min=1)
        mean = torch.where(mask, grouped, 0.0).sum((2, 3, 4), keepdim=True) / count
        centred = torch.where(mask, grouped - mean, 0.0)
        variance = centred.square().sum((2, 3, 4), keepdim=True) / count
        normalized = (centred / (variance + self.eps).sqrt()).flatten(1, 2)
        return torch.where(valid, normalized * self.weight[:, None, None] + self.bias[:, None, None], 0.0)


@contextmanager
def zero_padding_cells(valid: ValidCells, modules: Iterable[tuple[nn.Module, int]]) -> Iterator[None]:
    """Within the block, `modules` receive 0 in padding cells. Each is given with the stride of its input.

    A convolution then computes what it would on a canvas that ends with the image, because it pads with
    zeros. So does a max pooling after a ReLU, whose maxima are at least 0.
    """

    def zero_padding(stride: int) -> Callable[[nn.Module, tuple[Any, ...]], Tensor]:
        return lambda _, inputs: torch.where(valid(inputs[0], stride), inputs[0], 0.0)

    with ExitStack() as hooks:
        for module, stride in modules:
            hooks.enter_context(module.register_forward_pre_hook(zero_padding(stride)))
        yield
