"""IoU of boxes, and the one-to-one matching of the detections that two forms give for one image."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LEAST_IOU = 0.5  # detections whose boxes overlap less are not the same detection

_Indices = NDArray[np.intp]
_Floats = NDArray[np.float64]


class LabelledBoxes(NamedTuple):
    """Detections of one image: `boxes` [N,4] x1 y1 x2 y2, `scores` [N] and `labels` [N]."""

    boxes: NDArray[np.floating]
    scores: NDArray[np.floating]
    labels: NDArray[np.int64]


def box_iou(a: NDArray[Any], b: NDArray[Any]) -> _Floats:
    """Boxes [N,4] and [M,4], x1 y1 x2 y2 → IoU [N,M], computed in float64; 0 for a box without area.

    The operations and their order are those of `pycocotools.mask.iou`, so that both give the same numbers.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    common = sides.clip(0).prod(-1)
    areas, others = ((boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (a, b))
    union = areas[:, None] + others[None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)


def match_one_to_one(reference: LabelledBoxes, other: LabelledBoxes) -> tuple[_Indices, _Indices, _Floats]:
    """Pairs of detections of the same class: indices into `reference` and into `other` [P], box IoU [P].

    Greedy: the pair with the largest IoU first, down to LEAST_IOU; among pairs of equal IoU the one with the
    nearest scores, so that a detection that kept its place is matched with itself. Each detection is matched
    at most once. Equal boxes have IoU 1, even if they have no area.
    """
    iou = box_iou(reference.boxes, other.boxes)
    iou[(reference.boxes[:, None] == other.boxes).all(2)] = 1
    rows, columns = np.nonzero((reference.labels[:, None] == other.labels) & (iou >= LEAST_IOU))
    candidates = iou[rows, columns]
    order = np.lexsort([abs(reference.scores[rows] - other.scores[columns]), -candidates])
    chosen = order[_greedy(rows[order], columns[order])]
    return rows[chosen], columns[chosen], candidates[chosen]


def _greedy(rows: _Indices, columns: _Indices) -> _Indices:
    """Indices of the pairs, sorted best first, that a greedy choice takes: each row and column at most once.

    A pair that is the best of both its row and its column is always taken, so all such pairs are taken in one
    round. Rounds repeat until no pair is left.
    """
    left, taken = np.arange(len(rows)), []
    while len(left):
        best = _first_occurrences(rows[left]) & _first_occurrences(columns[left])
        taken.append(left[best])
        used = np.isin(rows[left], rows[left[best]]) | np.isin(columns[left], columns[left[best]])
        left = left[~used]
    return np.sort(np.concatenate(taken)) if taken else left


def _first_occurrences(values: _Indices) -> NDArray[np.bool_]:
    """For each value, whether it occurs there for the first time."""
    first = np.zeros(len(values), bool)
    first[np.unique(values, return_index=True)[1]] = True
    return first
