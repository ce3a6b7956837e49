"""Anchors at the corner of their cell (Faster R-CNN, arXiv:1506.01497; RetinaNet, arXiv:1708.02002)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Anchors(nn.Module):
    """The anchors of a pyramid, given one by one by cell and kind: a grid of them is never laid out.

    `strides`: of the levels, in pixels. `ratios`: height / width. `scales`: side of the square anchor of
    ratio 1, in strides. Kinds are numbered ratio by ratio, scales inner.
    """

    sides: Tensor

    def __init__(self, strides: Sequence[int], ratios: Sequence[float], scales: Sequence[float]) -> None:
        super().__init__()
        roots = torch.tensor(ratios, dtype=torch.float64).sqrt()[:, None]
        scale = torch.tensor(scales, dtype=torch.float64)[None]
        sides = torch.stack([(scale / roots).flatten(), (scale * roots).flatten()], dim=1)
        self.register_buffer("sides", sides.float(), persistent=False)  # [kinds,2]: width, height in strides
        self.strides = tuple(strides)

    @property
    def kinds(self) -> int:
        """Anchors at one cell."""
        return len(self.sides)

    def forward(self, level: int, cells: Tensor, kinds: Tensor, width: int) -> Tensor:
        """Anchors [...,4] in pixels; cells [...] row-major on a map `width` cells wide, kinds [...]."""
        stride = self.strides[level]
        rows = cells // width
        columns = cells - rows * width  # the exporter has no remainder by a dynamic width
        centres = torch.stack([columns, rows], dim=-1) * stride
        halves = self.sides[kinds] * (stride / 2)
        return torch.cat([centres - halves, centres + halves], dim=-1)


def octave_scales(base: float, count: int) -> list[float]:
    """RetinaNet's scales: `count` to the octave, starting at `base`."""
    return [base * 2 ** (i / count) for i in range(count)]
