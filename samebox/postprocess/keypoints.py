"""Keypoints after the network: from logits over boxes to places in the image."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_Float = NDArray[np.float32]

# COCO's limbs: pairs of a person's 17 keypoints, the first of which is the nose
SKELETON = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9)),
    *((8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
)

# How much cubic interpolation half way between two values overshoots them: the weight of its outer neighbours
_OVERSHOOT = np.float32(0.1875)

# Float32 rounds sums in the order they are made in: what a bound allows for, of the largest value
_ROUNDING = np.float32(1e-5)


def located(logits: _Float, boxes: _Float, score: str) -> _Float:
    """Logits [N,P,S,S] over boxes [N,4], x1 y1 x2 y2 in pixels → keypoints [N,P,3]: x, y in pixels, score.

    As detectron2 and maskrcnn-benchmark do: each map is enlarged bicubically to its box, whose sides are at
    least 1 and rounded up, and the keypoint is the centre of the highest pixel. `score`: one of SCORES.
    """
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], np.float32(1))
    pixels = np.ceil(sides)
    found = np.empty((*logits.shape[:2], 3), np.float32)
    for keypoints, maps, (width, height) in zip(found, logits, pixels.astype(int).tolist(), strict=True):
        keypoints[:] = _peaks(maps, height, width)
    found[..., :2] = (found[..., :2] + np.float32(0.5)) * (sides / pixels)[:, None] + boxes[:, None, :2]
    found[..., 2] = SCORES[score](logits, found[..., 2])
    return found


def ratio(logits: _Float, peaks: _Float) -> _Float:
    """Logits [N,P,S,S], the highest [N,P] of each enlarged map → its exponential over the sum of the map's.

    An enlarged map overshoots its values, so that a ratio may exceed 1.
    """
    with np.errstate(over="ignore"):  # a peak far below its map's values has the ratio 0
        sums = np.exp(logits - peaks[..., None, None]).sum((2, 3))
    return 1 / np.maximum(sums, np.finfo(np.float32).tiny)  # nor is that of one far above them infinite


def logit(_logits: _Float, peaks: _Float) -> _Float:
    """The highest logit itself, as `ratio` takes it."""
    return peaks


# What a keypoint's score is: detectron2's, maskrcnn-benchmark's
SCORES = {"ratio": ratio, "logit": logit}


def distances(a: _Float, b: _Float) -> _Float:
    """Keypoints [...,P,3] and as many others → the median of the P distances in pixels: [...]."""
    apart = a[..., :2] - b[..., :2]
    return np.median(np.hypot(apart[..., 0], apart[..., 1]), axis=-1)


def _peaks(maps: _Float, height: int, width: int) -> _Float:
    """The highest pixel of each map [P,S,S] as it would be enlarged: column, row and value, [P,3].

    Only rows that may hold it are enlarged to their width: few of most maps, for a peak is narrow.
    """
    side = maps.shape[1]
    places = (np.arange(height) + 0.5) * (side / height) - 0.5  # of the rows; a value's index is its centre
    most = _bounds(maps).max(2)[:, np.floor(places).astype(np.intp) + 1]  # [P,height]
    slack = _ROUNDING * np.abs(maps).max((1, 2), initial=0)
    peaks = np.empty((len(maps), 3), np.float32)
    for peak, values, bounds, below in zip(peaks, maps, most, slack, strict=True):
        tall = cv2.resize(values, (side, height), interpolation=cv2.INTER_CUBIC)
        _, _, least = _peak(tall, tall.max(axis=1).argmax(keepdims=True), width)
        # not ">=": where a logit is no number, every row is looked at
        peak[:] = _peak(tall, np.flatnonzero(~(bounds < least - below)), width)
    return peaks


def _peak(tall: NDArray[Any], rows: NDArray[np.intp], width: int) -> tuple[int, int, float]:
    """Column, row and value of the highest pixel in some rows of a map [height,S] enlarged to `width`."""
    enlarged = cv2.resize(tall[rows], (width, len(rows)), interpolation=cv2.INTER_CUBIC)
    row, column = divmod(int(enlarged.argmax()), width)
    return column, int(rows[row]), float(enlarged[row, column])


def _bounds(maps: _Float) -> _Float:
    """The most that cubic interpolation gives in each gap between the values of maps [P,S,S]: [P,S+1,S+1]."""
    low, high = _between(maps, maps)
    low, high = _between(low.swapaxes(1, 2), high.swapaxes(1, 2))
    return high.swapaxes(1, 2)


def _between(low: _Float, high: _Float) -> tuple[_Float, _Float]:
    """Values [P,L,S] within `low` and `high` → what interpolation makes of them in each gap, [P,L,S+1].

    Its weights of the two values around a gap are from 0 up, those of the next two at most 0.
    """
    low, high = (np.pad(bound, ((0, 0), (0, 0), (2, 2)), "edge") for bound in (low, high))
    least = np.minimum(low[..., 1:-2], low[..., 2:-1])
    most = np.maximum(high[..., 1:-2], high[..., 2:-1])
    outer_least = np.minimum(low[..., :-3], low[..., 3:])
    outer_most = np.maximum(high[..., :-3], high[..., 3:])
    return (
        least - _OVERSHOOT * np.maximum(outer_most - least, 0),
        most + _OVERSHOOT * np.maximum(most - outer_least, 0),
    )
