"""Keypoints from heatmaps of logits over boxes, as detectron2 and maskrcnn-benchmark compute them."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_Float = NDArray[np.float32]

PERSON_KEYPOINTS = 17  # of a person in COCO; index 0 is the nose

# COCO's limbs: pairs of indices of a person's keypoints
SKELETON = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9)),
    *((8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
)

# By how much cubic interpolation half way between two equal values may overshoot them: the absolute weight of
# the two outer neighbours
_OVERSHOOT = np.float32(0.1875)

# Float32 sums depend on the order of their terms: the tolerance of a bound, relative to the largest value
_ROUNDING = np.float32(1e-5)


def keypoints_from_heatmaps(logits: _Float, boxes: _Float, score: str) -> _Float:
    """Logits [N,P,S,S] over boxes [N,4], x1 y1 x2 y2 in pixels → keypoints [N,P,3]: x, y in pixels, score.

    As in detectron2 and maskrcnn-benchmark, each map is enlarged bicubically to its box, whose sides are at
    least 1 and rounded up, and the keypoint is the centre of the highest pixel. `score` is a key of SCORES.
    """
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], np.float32(1))
    pixels = np.ceil(sides)
    peaks = np.empty((*logits.shape[:2], 3), np.float32)
    for keypoints, maps, (width, height) in zip(peaks, logits, pixels.astype(int).tolist(), strict=True):
        keypoints[:] = _peaks(maps, height, width)
    peaks[..., :2] = (peaks[..., :2] + np.float32(0.5)) * (sides / pixels)[:, None] + boxes[:, None, :2]
    peaks[..., 2] = SCORES[score](logits, peaks[..., 2])
    return peaks


def ratio(logits: _Float, peaks: _Float) -> _Float:
    """Logits [N,P,S,S] and the peaks [N,P] of the enlarged maps → exp(peak) / sum of exp(logits), [N,P].

    An enlarged map overshoots its values, so the ratio may exceed 1.
    """
    with np.errstate(over="ignore"):  # a peak far below the values of its map has the ratio 0
        sums = np.exp(logits - peaks[..., None, None]).sum((2, 3))
    return 1 / np.maximum(sums, np.finfo(np.float32).tiny)  # a peak far above them has a finite ratio


def logit(_logits: _Float, peaks: _Float) -> _Float:
    """The peak itself; the signature is that of `ratio`."""
    return peaks


# The score of a keypoint by name: detectron2's, maskrcnn-benchmark's
SCORES = {"ratio": ratio, "logit": logit}


def keypoint_distances(a: _Float, b: _Float) -> _Float:
    """Two arrays of keypoints [...,P,3] → the median of the P distances in pixels, [...]."""
    offsets = a[..., :2] - b[..., :2]
    return np.median(np.hypot(offsets[..., 0], offsets[..., 1]), axis=-1)


def _peaks(maps: _Float, height: int, width: int) -> _Float:
    """The highest pixel of each map [P,S,S] enlarged to `height` and `width`: column, row, value, [P,3].

    Only rows that may hold the peak are enlarged to the full width. In most maps these are few, because peaks
    are narrow.
    """
    side = maps.shape[1]
    places = (np.arange(height) + 0.5) * (side / height) - 0.5  # of the rows; a value's index is its centre
    upper = _upper_bounds(maps).max(2)[:, np.floor(places).astype(np.intp) + 1]  # [P,height]
    tolerance = _ROUNDING * np.abs(maps).max((1, 2), initial=0)
    peaks = np.empty((len(maps), 3), np.float32)
    for peak, values, bounds, slack in zip(peaks, maps, upper, tolerance, strict=True):
        tall = cv2.resize(values, (side, height), interpolation=cv2.INTER_CUBIC)
        _, _, known = _peak(tall, tall.max(axis=1).argmax(keepdims=True), width)
        # not ">=": if a logit is NaN, every row is a candidate
        peak[:] = _peak(tall, np.flatnonzero(~(bounds < known - slack)), width)
    return peaks


def _peak(tall: NDArray[Any], rows: NDArray[np.intp], width: int) -> tuple[int, int, float]:
    """Column, row and value of the highest pixel in some rows of a map [height,S] enlarged to `width`."""
    enlarged = cv2.resize(tall[rows], (width, len(rows)), interpolation=cv2.INTER_CUBIC)
    row, column = divmod(int(enlarged.argmax()), width)
    return column, int(rows[row]), float(enlarged[row, column])


def _upper_bounds(maps: _Float) -> _Float:
    """Upper bounds of cubic interpolation in each gap between the values of maps [P,S,S]: [P,S+1,S+1]."""
    low, high = _gap_bounds(maps, maps)
    low, high = _gap_bounds(low.swapaxes(1, 2), high.swapaxes(1, 2))
    return high.swapaxes(1, 2)


def _gap_bounds(low: _Float, high: _Float) -> tuple[_Float, _Float]:
    """Bounds of values, [P,L,S] each → bounds of the interpolated values in each gap, [P,L,S+1] each.

    The weights of the two values around a gap are at least 0, those of the next two at most 0.
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
