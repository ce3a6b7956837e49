"""Anchors of a feature pyramid, computed only for the cells and anchor indices that are asked for.

At the corner of their cell: Faster R-CNN (arXiv:1506.01497), RetinaNet (arXiv:1708.02002). At its centre,
with sizes in pixels: SSD (arXiv:1512.02325), YOLO (arXiv:1612.08242). FCOS (arXiv:1904.01355) has points
instead.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Anchors(nn.Module):
    """Anchors centred on the top left corner of their cell, with sizes in strides.

    `strides`: of the levels, in pixels. `ratios`: height / width. `scales`: side of the square anchor of
    ratio 1, in strides. The anchors of a cell are ordered by ratio, then by scale; with `ratios_inner`, as in
    detectron2, by scale, then by ratio.
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
        # [per_cell,2]: width, height in strides
        self.register_buffer("sides", sides.float(), persistent=False)
        self.strides = tuple(strides)

    @property
    def per_cell(self) -> int:
        """Number of anchors at a cell."""
        return len(self.sides)

    def forward(self, level: int, cells: Tensor, indices: Tensor, width: int) -> Tensor:
        """Boxes [...,4], x1 y1 x2 y2 in pixels, of some anchors of a level.

        cells [...]: row-major index of the cell on a map `width` cells wide. indices [...]: the anchor's
        index in its cell.
        """
        stride = self.strides[level]
        corners = columns_and_rows(cells, width) * stride
        halves = self.sides[indices] * (stride / 2)
        return torch.cat([corners - halves, corners + halves], dim=-1)


class DetectronAnchors(nn.Module):
    """Anchors of the first Detectron: inclusive boxes (see `blocks.boxes`) in whole pixels.

    For each ratio, width and height of an anchor of one stride are rounded to whole pixels and then scaled
    about its centre. Arguments as of Anchors.
    """

    def __init__(self, strides: Sequence[int], ratios: Sequence[float], scales: Sequence[float]) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.per_cell = len(ratios) * len(scales)  # number of anchors at a cell
        for index, stride in enumerate(strides):
            sides = [rounded_sides(stride, ratio) for ratio in ratios]
            halves = [[(side * scale - 1) / 2 for side in pair] for pair in sides for scale in scales]
            boxes = (stride - 1) / 2 + torch.tensor([[-w, -h, w, h] for w, h in halves])
            self.register_buffer(f"boxes_{index}", boxes, persistent=False)

    def forward(self, level: int, cells: Tensor, indices: Tensor, width: int) -> Tensor:
        """As Anchors.forward."""
        corners = columns_and_rows(cells, width) * self.strides[level]
        return torch.cat([corners, corners], dim=-1) + self.get_buffer(f"boxes_{level}")[indices]


class SizedAnchors(nn.Module):
    """Anchors at the centre of their cell. `sides`: for each level the widths and heights, in pixels."""

    def __init__(self, strides: Sequence[int], sides: Sequence[Sequence[Sequence[float]]]) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.per_cell = tuple(len(level) for level in sides)  # number of anchors at a cell, for each level
        for index, level in enumerate(sides):
            self.register_buffer(f"sides_{index}", torch.tensor(level, dtype=torch.float32), persistent=False)

    def forward(self, level: int, cells: Tensor, indices: Tensor, width: int) -> Tensor:
        """As Anchors.forward."""
        centres = (columns_and_rows(cells, width) + 0.5) * self.strides[level]
        halves = self.get_buffer(f"sides_{level}")[indices] * 0.5
        return torch.cat([centres - halves, centres + halves], dim=-1)


class Points(nn.Module):
    """The centres of cells, which detectors without anchors use in place of anchors: one per cell."""

    per_cell = 1

    def __init__(self, strides: Sequence[int]) -> None:
        super().__init__()
        self.strides = tuple(strides)

    def forward(self, level: int, cells: Tensor, _indices: Tensor, width: int) -> Tensor:
        """Points [...,2], x y in pixels; arguments as of Anchors.forward."""
        return (columns_and_rows(cells, width) + 0.5) * self.strides[level]


def columns_and_rows(cells: Tensor, width: int) -> Tensor:
    """Row-major cell indices [...] of a map `width` cells wide → [...,2]: column, row."""
    rows = cells // width
    columns = cells - rows * width  # torch.onnx cannot export % by a dynamic width
    return torch.stack([columns, rows], dim=-1)


def rounded_sides(stride: int, ratio: float) -> tuple[int, int]:
    """Width and height, in whole pixels, of an anchor of about stride² pixels; ratio: height / width."""
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
