"""Operations on boxes x1 y1 x2 y2 in pixels, in continuous coordinates: a box is x2 - x1 wide.

The first Detectron, and maskrcnn-benchmark after it, use inclusive boxes: x2 and y2 are the last pixels that
belong to the box, and its width is x2 - x1 + 1. A function that supports both has the argument `inclusive`.
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

    anchors, deltas (dx, dy, dw, dh) and the result: [...,4]. `stds` [4] multiplies the deltas: R-CNN heads
    are trained on deltas divided by their standard deviations. A box grows at most 62.5-fold; with
    `shrink_limit`, as in MMDetection, it also shrinks at most 62.5-fold.
    """
    if stds is not None:
        deltas = deltas * stds
    sizes = anchors[..., 2:] - anchors[..., :2] + float(inclusive)
    anchor_centres = (anchors[..., :2] + anchors[..., 2:] + float(inclusive)) * 0.5
    centres = anchor_centres + deltas[..., :2] * sizes
    min_log_ratio = -MAX_LOG_RATIO if shrink_limit else None
    halves = sizes * deltas[..., 2:].clamp(min_log_ratio, MAX_LOG_RATIO).exp() * 0.5
    return torch.cat([centres - halves, centres + halves - float(inclusive)], dim=-1)


def decode_distances(points: Tensor, distances: Tensor) -> Tensor:
    """Boxes [...,4] from points x y [...,2] and distances to left, top, right, bottom sides [...,4]."""
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)


def decode_tblr(anchors: Tensor, values: Tensor, normalizer: float) -> Tensor:
    """Boxes from the distances of their sides to an anchor's centre (FSAF, arXiv:1903.00621).

    anchors, values and the result: [...,4]. values are top, bottom, left, right; their unit is `normalizer`
    times the anchor's height (top, bottom) or width (left, right).
    """
    centres, sizes = (anchors[..., :2] + anchors[..., 2:]) * 0.5, anchors[..., 2:] - anchors[..., :2]
    top, bottom, left, right = values.unbind(-1)
    in_sizes = torch.stack([left, top, right, bottom], dim=-1) * normalizer
    return decode_distances(centres, in_sizes * sizes.repeat(*[1] * (sizes.ndim - 1), 2))


def clip(boxes: Tensor, sizes: Tensor, inclusive: bool = False) -> Tensor:
    """Boxes [B,N,4] clipped to their own image; sizes [B,2]: height and width of the images."""
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
    """Area of the intersection of every pair: [B,N,4], [B,M,4] → [B,N,M]."""
    # one coordinate at a time: the pairs are then the innermost dimension, and the operators are vectorised
    ax1, ay1, ax2, ay2 = a[:, :, None].unbind(-1)  # [B,N,1]
    bx1, by1, bx2, by2 = b[:, None].unbind(-1)  # [B,1,M]
    widths = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    heights = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    return widths * heights


def iou_above(a: Tensor, b: Tensor, threshold: float) -> Tensor:
    """Whether the IoU of a pair exceeds `threshold`: [B,N,4], [B,M,4] → [B,N,M] bool."""
    intersection = intersections(a, b)
    union = areas(a)[:, :, None] + areas(b)[:, None, :] - intersection
    return intersection / union > threshold
