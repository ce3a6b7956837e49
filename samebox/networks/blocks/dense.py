"""From the maps of a dense head to the candidates of the NMS."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from samebox.networks.blocks.anchors import Anchors, DetectronAnchors, Points, SizedAnchors
from samebox.networks.blocks.boxes import as_continuous, clip, decode_deltas, has_area
from samebox.networks.blocks.topk import stable_topk


class Pairs(NamedTuple):
    """The best (anchor, class) pairs of a level, each field [B,count], by descending score.

    `scores` are 0 where there is no pair; `cells` are row-major on the map; `kinds` number the anchors
    of a cell.
    """

    scores: Tensor
    labels: Tensor
    cells: Tensor
    kinds: Tensor


def map_names(parts: Sequence[str], strides: Sequence[int]) -> tuple[str, ...]:
    """What the maps of a head are called: `<part>_<stride>`, level by level, each with its `parts`."""
    return tuple(f"{part}_{stride}" for stride in strides for part in parts)


def probability(logits: Tensor) -> Tensor:
    """The sigmoid, written out: ONNX Runtime's Sigmoid is off by some 1e-7.

    Near 1 that is enough to reorder anchors of the same object, and another one's box survives the NMS.
    """
    return 1 / (1 + torch.exp(-logits))


def rank(logits: Tensor) -> Tensor:
    """A positive number that rises with the logit, and that tells large ones apart where the sigmoid is 1."""
    return torch.where(logits > 0, logits + 1, 1 / (1 - logits.clamp(max=0)))


def class_probabilities(logits: Tensor) -> Tensor:
    """The softmax over axis 2, whose last is the background, without it: [B,N,C+1,…] → [B,N,C,…]."""
    return logits.softmax(2)[:, :, :-1]


def best_pairs(
    logits: Tensor,
    classes: int,
    count: int,
    threshold: float,
    score: Callable[[Tensor], Tensor] = probability,
) -> Pairs:
    """The `count` best (anchor, class) pairs whose score, that of their logit, is above `threshold`.

    logits [B,kinds*classes,H,W], classes fastest. Two steps, because sorting every pair of a fine map
    costs more than its convolutions: no pair among the `count` best lies at an anchor whose own best
    class is not among the `count` best anchors. Of a single class the first step is enough. The maps are
    never transposed. Ranks go by score, not by logit: where the sigmoid saturates, scores are equal, and the
    first anchor comes first. `score` may be any function that never falls.
    """
    batch, channels, height, width = logits.shape
    kinds, area = channels // classes, height * width
    by_class = logits.reshape(batch, kinds, classes, area)
    by_anchor = score(by_class.amax(2)).transpose(1, 2).reshape(batch, area * kinds)
    # a small map has fewer anchors than `count`: the rows to spare must exist, and lose
    scores, anchors = stable_topk(F.pad(by_anchor, (0, count)), count)
    real = anchors < area * kinds
    anchors = torch.where(real, anchors, 0)
    cells, kind = anchors // kinds, anchors % kinds  # [B,count]
    if classes == 1:
        return Pairs(torch.where(scores > threshold, scores, 0.0), torch.zeros_like(cells), cells, kind)

    channel = kind[..., None] * classes + torch.arange(classes, device=logits.device)  # [B,count,classes]
    index = (channel * area + cells[..., None]).flatten(1)
    chosen = logits.flatten(1).gather(1, index).reshape(batch, count, classes)
    chosen = torch.where(real[..., None], score(chosen), 0.0)
    scores, pair = stable_topk(chosen.flatten(1), count)
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
    """The best pairs of every level, decoded and clipped: boxes [B,N,4], scores [B,N], labels [B,N].

    `levels`: logits [B,kinds*classes,H,W] and deltas [B,kinds*4,H,W] of each, finest first; N =
    levels*count, level by level. Logits [B,kinds,H,W] of how good an anchor's box is may follow: the score
    of a pair that was found is then multiplied by their sigmoid. The score is 0 where there is no pair, and
    where clipping to its image leaves a box without an area. `decode` makes boxes [B,count,4] of anchors
    and their deltas, `score` scores of logits. Unless they are to be `clipped`, boxes may reach beyond their
    image. They may be `inclusive`, see `samebox.networks.blocks.boxes`.
    """
    priors, moves, scores, labels = [], [], [], []
    for level, (logits, deltas, *qualities) in enumerate(levels):
        pairs = best_pairs(logits, classes, count, threshold, score)
        priors.append(anchors(level, pairs.cells, pairs.kinds, logits.shape[3]))
        moves.append(at_pairs(deltas, pairs, 4))
        for quality in qualities:
            pairs = pairs._replace(scores=pairs.scores * probability(at_pairs(quality, pairs, 1)[..., 0]))
        scores.append(pairs.scores)
        labels.append(pairs.labels)
    boxes = decode(torch.cat(priors, 1), torch.cat(moves, 1))
    if clipped:
        boxes = clip(boxes, sizes, inclusive)
    return boxes, torch.cat(scores, 1) * has_area(as_continuous(boxes, inclusive)), torch.cat(labels, 1)
