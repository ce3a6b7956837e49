"""Boxes x1 y1 x2 y2 in continuous pixel coordinates: no "+1" in any width.

The first Detectron counted otherwise, and maskrcnn-benchmark after it: x2 and y2 are the last pixels that
belong to a box, so that its width is x2 - x1 + 1. Where a function knows such boxes, they are `inclusive`.
"""

import math

import torch
from torch import Tensor

# MMDetection and Detectron clamp the size deltas so that exp() cannot overflow: a box grows at most 62.5-fold
MAX_LOG_RATIO = math.log(1000 / 16)


def decode_deltas(
    anchors: Tensor,
    deltas: Tensor,
    stds: Tensor | None = None,
    *,
    inclusive: bool = False,
    shrink_limit: bool = True,
) -> Tensor:
    """Boxes from centre and log-size deltas relative to anchors (R-CNN, arXiv:1311.2524, appendix C).

    anchors, deltas (dx, dy, dw, dh) and the result: [...,4]. `stds` [4]: the deltas' unit, where that is
    not 1: R-CNN heads are trained on deltas divided by their spread. A box grows at most 62.5-fold; with
    `shrink_limit`, as in MMDetection, it shrinks no more than that either.
    """
    if stds is not None:
        deltas = deltas * stds
    sizes = anchors[..., 2:] - anchors[..., :2] + float(inclusive)
    middles = (anchors[..., :2] + anchors[..., 2:] + float(inclusive)) * 0.5
    centres = middles + deltas[..., :2] * sizes
    least = -MAX_LOG_RATIO if shrink_limit else None
    halves = sizes * deltas[..., 2:].clamp(least, MAX_LOG_RATIO).exp() * 0.5
    return torch.cat([centres - halves, centres + halves - float(inclusive)], dim=-1)


def decode_distances(points: Tensor, distances: Tensor) -> Tensor:
    """Boxes [...,4] from points x, y [...,2] and how far left, top, right, bottom [...,4] lie from them."""
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)


def decode_tblr(anchors: Tensor, values: Tensor, normalizer: float) -> Tensor:
    """Boxes from how far their sides lie from an anchor's centre (FSAF, arXiv:1903.00621).

    anchors, values and the result: [...,4]; values are top, bottom, left, right, in `normalizer` times the
    anchor's height or width.
    """
    centres, sizes = (anchors[..., :2] + anchors[..., 2:]) * 0.5, anchors[..., 2:] - anchors[..., :2]
    top, bottom, left, right = values.unbind(-1)
    in_sizes = torch.stack([left, top, right, bottom], dim=-1) * normalizer
    return decode_distances(centres, in_sizes * sizes.repeat(*[1] * (sizes.ndim - 1), 2))


def clip(boxes: Tensor, sizes: Tensor, inclusive: bool = False) -> Tensor:
    """Boxes [B,N,4] moved into their own images; sizes [B,2], height and width."""
    limits = sizes.to(boxes.dtype).flip(1).repeat(1, 2)[:, None] - float(inclusive)  # [B,1,4]: w h w h
    return torch.minimum(boxes.clamp(min=0), limits)


def as_continuous(boxes: Tensor, inclusive: bool) -> Tensor:
    """Boxes [...,4] in continuous coordinates: 1 is added to x2 and y2 of `inclusive` boxes."""
    return torch.cat([boxes[..., :2], boxes[..., 2:] + 1], dim=-1) if inclusive else boxes


def has_area(boxes: Tensor) -> Tensor:
    """Whether width and height of boxes [...,4] are both positive: [...] bool."""
    return (boxes[..., 2:] > boxes[..., :2]).all(-1)


def areas(boxes: Tensor) -> Tensor:
    """[...,4] → [...], in square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersections(a: Tensor, b: Tensor) -> Tensor:
    """Common area of every pair: [B,N,4], [B,M,4] → [B,N,M]."""
    # coordinate by coordinate: with the pairs innermost, the operators run vectorised
    ax1, ay1, ax2, ay2 = a[:, :, None].unbind(-1)  # [B,N,1]
    bx1, by1, bx2, by2 = b[:, None].unbind(-1)  # [B,1,M]
    widths = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    heights = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    return widths * heights


def iou_above(a: Tensor, b: Tensor, threshold: float) -> Tensor:
    """Whether the IoU of a pair exceeds `threshold`: [B,N,4], [B,M,4] → [B,N,M] bool."""
    common = intersections(a, b)
    union = areas(a)[:, :, None] + areas(b)[:, None, :] - common
    return common / union > threshold
