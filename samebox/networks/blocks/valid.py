"""What lies on a canvas beyond an image, kept from counting in the image's answer."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class ValidCells:
    """Which cells of maps belong to their images: those of a stride are worked out once.

    sizes [B,2], height and width in pixels: of a map of stride s, ceil(size / s) rows and columns.
    """

    def __init__(self, sizes: Tensor) -> None:
        self.sizes = sizes
        self._known: dict[int, Tensor] = {}

    def __call__(self, x: Tensor, stride: int) -> Tensor:
        """Of maps x [B,C,H,W] of `stride`: [B,1,H,W] bool."""
        if stride not in self._known:
            rows = torch.arange(x.shape[2], device=x.device) * stride < self.sizes[:, :1]  # [B,H]
            columns = torch.arange(x.shape[3], device=x.device) * stride < self.sizes[:, 1:]  # [B,W]
            self._known[stride] = (rows[:, :, None] & columns[:, None, :])[:, None]
        return self._known[stride]


class GroupNorm(nn.GroupNorm):
    """PyTorch's; or, told of the valid cells, one whose statistics are of these alone."""

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """x [B,C,H,W] → the same shape; with `valid` [B,1,H,W] bool, 0 in all other cells."""
        if valid is None:
            return super().forward(x)
        grouped, inside = x.unflatten(1, (self.num_groups, -1)), valid[:, None]  # [B,G,C/G,H,W], [B,1,1,H,W]
        # an image without area has no cell
        count = (inside.sum((2, 3, 4), keepdim=True) * grouped.shape[2]).clamp(min=1)
        mean = torch.where(inside, grouped, 0.0).sum((2, 3, 4), keepdim=True) / count
        centred = torch.where(inside, grouped - mean, 0.0)
        variance = centred.square().sum((2, 3, 4), keepdim=True) / count
        normalized = (centred / (variance + self.eps).sqrt()).flatten(1, 2)
        return torch.where(valid, normalized * self.weight[:, None, None] + self.bias[:, None, None], 0.0)


@contextmanager
def zero_beyond(valid: ValidCells, taking: Iterable[tuple[nn.Module, int]]) -> Iterator[None]:
    """Meanwhile, modules take in 0 for every cell beyond its image: to them, the canvas ends with it.

    That is what a convolution takes in beyond the canvas, and what changes no maximum over a ReLU. `taking`:
    the modules, each with the stride of the maps that it takes in.
    """

    def zeroing(stride: int) -> Callable[[nn.Module, tuple[Any, ...]], Tensor]:
        return lambda _, taken: torch.where(valid(taken[0], stride), taken[0], 0.0)

    with ExitStack() as hooks:
        for module, stride in taking:
            hooks.enter_context(module.register_forward_pre_hook(zeroing(stride)))
        yield
