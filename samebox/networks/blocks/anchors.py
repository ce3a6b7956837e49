"""Anchors at the corner of their cell (Faster R-CNN, arXiv:1506.01497; RetinaNet, arXiv:1708.02002).

Or at its centre, and then with sizes in pixels (SSD, arXiv:1512.02325; YOLO, arXiv:1612.08242), or with
none (FCOS, arXiv:1904.01355).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Anchors(nn.Module):
    """The anchors of a pyramid, given one by one by cell and kind: a grid of them is never laid out.

    `strides`: of the levels, in pixels. `ratios`: height / width. `scales`: side of the square anchor of
    ratio 1, in strides. Kinds are numbered ratio by ratio, scales inner; with `ratios_inner`, as in
    detectron2, scale by scale.
    """

    sides: Tensor

    def __init__(
        self,
        strides: Sequence[int],
        ratios: Sequence[float],
        scales: Sequence[float],
        ratios_inner: bool = False,
    ) -> None:
        super().__init__()
        roots = torch.tensor(ratios, dtype=torch.float64).sqrt()[:, None]
        scale = torch.tensor(scales, dtype=torch.float64)[None]
        sides = torch.stack([scale / roots, scale * roots], dim=2)  # [ratios,scales,2]
        sides = (sides.transpose(0, 1) if ratios_inner else sides).flatten(0, 1)
        self.register_buffer("sides", sides.float(), persistent=False)  # [kinds,2]: width, height in strides
        self.strides = tuple(strides)

    @property
    def kinds(self) -> int:
        """Anchors at one cell."""
        return len(self.sides)

    def forward(self, level: int, cells: Tensor, kinds: Tensor, width: int) -> Tensor:
        """Anchors [...,4] in pixels; cells [...] row-major on a map `width` cells wide, kinds [...]."""
        stride = self.strides[level]
        corners = columns_and_rows(cells, width) * stride
        halves = self.sides[kinds] * (stride / 2)
        return torch.cat([corners - halves, corners + halves], dim=-1)


class DetectronAnchors(nn.Module):
    """As Anchors, the first Detectron's: inclusive boxes (see `blocks.boxes`) in whole pixels.

    For each ratio the sides of the window of one stride are rounded to whole pixels, and then scaled about
    the window's centre.
    """

    def __init__(self, strides: Sequence[int], ratios: Sequence[float], scales: Sequence[float]) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.kinds = len(ratios) * len(scales)  # anchors at one cell
        for index, stride in enumerate(strides):
            sides = [window(stride, ratio) for ratio in ratios]
            halves = [[(side * scale - 1) / 2 for side in pair] for pair in sides for scale in scales]
            boxes = (stride - 1) / 2 + torch.tensor([[-w, -h, w, h] for w, h in halves])
            self.register_buffer(f"boxes_{index}", boxes, persistent=False)

    def forward(self, level: int, cells: Tensor, kinds: Tensor, width: int) -> Tensor:
        """As Anchors.forward."""
        corners = columns_and_rows(cells, width) * self.strides[level]
        return torch.cat([corners, corners], dim=-1) + self.get_buffer(f"boxes_{level}")[kinds]


class SizedAnchors(nn.Module):
    """As Anchors, with widths and heights in pixels, a list of them for each level, at the cells' centres."""

    def __init__(self, strides: Sequence[int], sides: Sequence[Sequence[Sequence[float]]]) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.kinds = tuple(len(level) for level in sides)  # anchors at one cell, of each level
        for index, level in enumerate(sides):
            self.register_buffer(f"sides_{index}", torch.tensor(level, dtype=torch.float32), persistent=False)

    def forward(self, level: int, cells: Tensor, kinds: Tensor, width: int) -> Tensor:
        """As Anchors.forward."""
        centres = (columns_and_rows(cells, width) + 0.5) * self.strides[level]
        halves = self.get_buffer(f"sides_{level}")[kinds] * 0.5
        return torch.cat([centres - halves, centres + halves], dim=-1)


class Points(nn.Module):
    """What a detector without anchors has in their place: the cells' centres, one kind a cell."""

    kinds = 1

    def __init__(self, strides: Sequence[int]) -> None:
        super().__init__()
        self.strides = tuple(strides)

    def forward(self, level: int, cells: Tensor, _kinds: Tensor, width: int) -> Tensor:
        """Points x, y [...,2] in pixels; arguments as of Anchors.forward."""
        return (columns_and_rows(cells, width) + 0.5) * self.strides[level]


def columns_and_rows(cells: Tensor, width: int) -> Tensor:
    """Row-major cells [...] of a map `width` cells wide → [...,2]: column, row."""
    rows = cells // width
    columns = cells - rows * width  # the exporter has no remainder by a dynamic width
    return torch.stack([columns, rows], dim=-1)


def window(stride: int, ratio: float) -> tuple[int, int]:
    """Width and height, in whole pixels, of about the area of a square of `stride`; ratio: height / width."""
    width = round(math.sqrt(stride * stride / ratio))
    return width, round(width * ratio)


def octave_scales(base: float, count: int) -> list[float]:
    """RetinaNet's scales: `count` to the octave, starting at `base`."""
    return [base * 2 ** (i / count) for i in range(count)]


def ssd_sides(
    min_sizes: Sequence[float], max_sizes: Sequence[float], ratios: Sequence[Sequence[float]]
) -> list[list[tuple[float, float]]]:
    """SSD's widths and heights in pixels, level by level, for SizedAnchors.

    A level has the square of side `min_size`, the square of side sqrt(min_size * max_size), and for each
    ratio r in its `ratios` two anchors of the area of the first: r times as wide as high, and r times as high
    as wide.
    """
    levels = []
    for min_size, max_size, level_ratios in zip(min_sizes, max_sizes, ratios, strict=True):
        roots = [root for r in level_ratios for root in (math.sqrt(r), 1 / math.sqrt(r))]
        middle = math.sqrt(min_size * max_size)
        elongated = [(min_size * root, min_size / root) for root in roots]
        levels.append([(min_size, min_size), (middle, middle), *elongated])
    return levels
