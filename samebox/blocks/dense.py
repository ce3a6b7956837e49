"""From the maps of a dense head to the candidates of the NMS."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Pairs(NamedTuple):
    """The best (anchor, class) pairs of a level, each field [B,count], by descending score.

    `scores` are 0 where there is no pair; `cells` are row-major on the map; `kinds` number the anchors
    of a cell.
    """

    scores: Tensor
    labels: Tensor
    cells: Tensor
    kinds: Tensor


def best_pairs(logits: Tensor, classes: int, count: int, threshold: float) -> Pairs:
    """The `count` best (anchor, class) pairs whose sigmoid score is above `threshold`.

    logits [B,kinds*classes,H,W], classes fastest. Two steps, because sorting every pair of a fine map
    costs more than its convolutions: no pair among the `count` best lies at an anchor whose own best
    class is not among the `count` best anchors. The maps are never transposed.
    """
    batch, channels, height, width = logits.shape
    kinds, area = channels // classes, height * width
    by_class = logits.reshape(batch, kinds, classes, area)
    best = by_class.amax(2).transpose(1, 2).reshape(batch, area * kinds)
    # a small map has fewer anchors than `count`: the rows to spare must exist, and lose
    anchors = F.pad(best, (0, count), value=-torch.inf).topk(count).indices
    real = anchors < area * kinds
    anchors = torch.where(real, anchors, 0)
    cells, kind = anchors // kinds, anchors % kinds  # [B,count]

    channel = kind[..., None] * classes + torch.arange(classes, device=logits.device)  # [B,count,classes]
    index = (channel * area + cells[..., None]).flatten(1)
    chosen = logits.flatten(1).gather(1, index).reshape(batch, count, classes)
    chosen = torch.where(real[..., None], chosen, -torch.inf)
    top, pair = chosen.flatten(1).topk(count)
    scores = top.sigmoid()
    owner = pair // classes
    return Pairs(
        torch.where(scores > threshold, scores, 0.0),
        pair % classes,
        cells.gather(1, owner),
        kind.gather(1, owner),
    )


def at_pairs(values: Tensor, pairs: Pairs, width: int) -> Tensor:
    """The vectors of a map at the pairs' anchors: values [B,kinds*width,H,W] → [B,count,width]."""
    batch, _, height, columns = values.shape
    area = height * columns
    channel = pairs.kinds[..., None] * width + torch.arange(width, device=values.device)
    index = (channel * area + pairs.cells[..., None]).flatten(1)
    return values.flatten(1).gather(1, index).reshape(batch, -1, width)
