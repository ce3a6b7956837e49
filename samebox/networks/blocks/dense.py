"""Selects and decodes the NMS candidates of a dense head: one prediction per anchor (or point) and cell.

In shapes, A is the number of anchors at a cell and C the number of classes.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from samebox.networks.blocks.anchors import Anchors, DetectronAnchors, Points, SizedAnchors
from samebox.networks.blocks.boxes import as_continuous, clip, decode_deltas, has_area
from samebox.networks.blocks.topk import stable_topk


class Pairs(NamedTuple):
    """(anchor, class) pairs of a level, each field [B,count], in descending order of score.

    `scores` are 0 in padding rows. `cells`: row-major index of the anchor's cell on the map. `indices`: of
    the anchor in its cell.
    """

    scores: Tensor
    labels: Tensor
    cells: Tensor
    indices: Tensor


def map_names(parts: Sequence[str], strides: Sequence[int]) -> tuple[str, ...]:
    """Output names of a head's maps: `<part>_<stride>` for each of `strides`, and at each for all `parts`."""
    return tuple(f"{part}_{stride}" for stride in strides for part in parts)


def probability(logits: Tensor) -> Tensor:
    """The sigmoid as plain operators: ONNX Runtime's Sigmoid deviates by about 1e-7.

    Near 1 such a deviation reorders the anchors of one object, and the NMS then keeps another box.
    """
    return 1 / (1 + torch.exp(-logits))


def unsaturated_score(logits: Tensor) -> Tensor:
    """A positive, strictly increasing function of the logit that does not saturate as the sigmoid does."""
    return torch.where(logits > 0, logits + 1, 1 / (1 - logits.clamp(max=0)))


def class_probabilities(logits: Tensor) -> Tensor:
    """Softmax over axis 2, without the background, which is last: [B,N,C+1,…] → [B,N,C,…]."""
    return logits.softmax(2)[:, :, :-1]


def top_pairs(
    logits: Tensor,
    classes: int,
    count: int,
    threshold: float,
    score: Callable[[Tensor], Tensor] = probability,
) -> Pairs:
    """The `count` (anchor, class) pairs of the highest scores above `threshold`.

    logits [B,A*C,H,W], classes fastest; `score` maps logits to scores and must be non-decreasing.

    The selection has two steps, because sorting all pairs of a fine map costs more than its convolutions:
    first the `count` anchors with the highest top class, then the pairs of these. This is exact, because an
    anchor with one of the `count` highest pairs is among the `count` anchors with the highest top class. With
    one class the first step suffices. The maps are never transposed. Pairs are ordered by score, not by
    logit: scores are equal where the sigmoid saturates, and among equal scores the first anchor comes first.
    """
    batch, channels, height, width = logits.shape
    per_cell, area = channels // classes, height * width
    by_class = logits.reshape(batch, per_cell, classes, area)
    by_anchor = score(by_class.amax(2)).transpose(1, 2).reshape(batch, area * per_cell)
    # a small map has fewer than `count` anchors: padding supplies the missing rows, which rank last
    scores, anchors = stable_topk(F.pad(by_anchor, (0, count)), count)
    exists = anchors < area * per_cell
    anchors = torch.where(exists, anchors, 0)
    cells, indices = anchors // per_cell, anchors % per_cell  # [B,count]
    if classes == 1:
        return Pairs(torch.where(scores > threshold, scores, 0.0), torch.zeros_like(cells), cells, indices)

    channel = indices[..., None] * classes + torch.arange(classes, device=logits.device)  # [B,count,C]
    position = (channel * area + cells[..., None]).flatten(1)
    selected = logits.flatten(1).gather(1, position).reshape(batch, count, classes)
    selected = torch.where(exists[..., None], score(selected), 0.0)
    scores, pair = stable_topk(selected.flatten(1), count)
    row = pair // classes
    return Pairs(
        torch.where(scores > threshold, scores, 0.0),
        pair % classes,
        cells.gather(1, row),
        indices.gather(1, row),
    )


def gather_at_pairs(values: Tensor, pairs: Pairs, width: int) -> Tensor:
    """A map's values at the anchors of pairs: values [B,A*width,H,W] → [B,count,width]."""
    batch, _, height, columns = values.shape
    area = height * columns
    channel = pairs.indices[..., None] * width + torch.arange(width, device=values.device)
    position = (channel * area + pairs.cells[..., None]).flatten(1)
    return values.flatten(1).gather(1, position).reshape(batch, -1, width)


def candidates(
    levels: Sequence[tuple[Tensor, ...]],
    anchors: Anchors | DetectronAnchors | SizedAnchors | Points,
    classes: int,
    count: int,
    threshold: float,
    sizes: Tensor,
    *,
    decode: Callable[[Tensor, Tensor], Tensor] = decode_deltas,
    score: Callable[[Tensor], Tensor] = probability,
    clipped: bool = True,
    inclusive: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """The `top_pairs` of every level, decoded: boxes [B,N,4], scores [B,N], labels [B,N], N = levels*count.

    `levels`, finest first: logits [B,A*C,H,W] and deltas [B,A*4,H,W], optionally followed by quality logits
    [B,A,H,W], such as a centerness, whose sigmoid multiplies the scores of the selected pairs. Rows are
    ordered level by level. The score is 0 in padding rows, and for a box without area.

    `decode` maps anchors and deltas [B,N,4] to boxes, `score` logits to scores. Boxes are clipped to their
    images, of `sizes` [B,2] (height, width), unless `clipped` is false. For `inclusive` boxes see
    `blocks.boxes`.
    """
    priors, deltas, scores, labels = [], [], [], []
    for level, (logits, level_deltas, *qualities) in enumerate(levels):
        pairs = top_pairs(logits, classes, count, threshold, score)
        priors.append(anchors(level, pairs.cells, pairs.indices, logits.shape[3]))
        deltas.append(gather_at_pairs(level_deltas, pairs, 4))
        for quality in qualities:
            factor = probability(gather_at_pairs(quality, pairs, 1)[..., 0])
            pairs = pairs._replace(scores=pairs.scores * factor)
        scores.append(pairs.scores)
        labels.append(pairs.labels)
    boxes = decode(torch.cat(priors, 1), torch.cat(deltas, 1))
    if clipped:
        boxes = clip(boxes, sizes, inclusive)
    return boxes, torch.cat(scores, 1) * has_area(as_continuous(boxes, inclusive)), torch.cat(labels, 1)
