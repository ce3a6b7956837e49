"""Comparison of the outputs of two graphs for the same input, detections matched one to one."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Tolerance:
    """The largest differences at which two graphs still count as equal.

    `score` and `box` (canvas pixels) apply to matched detections. `value` is the absolute and the relative
    tolerance of every other real number. In every output except scores, labels and boxes, the share `share`
    of the elements may differ by more: PointRend, for example, chooses points by the last digit.
    """

    score: float = 1e-3
    box: float = 0.1
    value: float = 1e-3
    share: float = 1e-3


class OutputDifferenceError(Exception):
    """Two graphs give different outputs. The text is one line that names the output or the detection."""


def compare_outputs(reference: Arrays, outputs: Arrays, tolerance: Tolerance) -> int:
    """The number of detections of `reference` that `outputs` contains as well.

    An output whose shape starts with that of `scores` [B,K] holds one row per detection and is compared
    between matched detections. Every other output is compared element by element; without `scores` (head
    outputs) that is all of them. Raises OutputDifferenceError if anything differs by more than `tolerance`.
    """
    for name, value in reference.items():
        if value.shape != outputs[name].shape:
            raise OutputDifferenceError(f"{name} has shape {outputs[name].shape}, not {value.shape}")
    rows = reference["scores"].shape if "scores" in reference else (0,)
    per_detection = [name for name, value in reference.items() if value.shape[:2] == rows]
    for name in set(reference).difference(per_detection):
        _compare_values(name, reference[name], outputs[name], tolerance)
    detections = 0
    for image in range(rows[0]):
        ours, theirs = ({name: side[name][image] for name in per_detection} for side in (reference, outputs))
        pairs = _matched_rows(ours, theirs, tolerance)
        for name in set(per_detection) - {"scores", "labels", "boxes"}:
            _compare_values(name, ours[name][pairs[:, 0]], theirs[name][pairs[:, 1]], tolerance)
        detections += len(pairs)
    return detections


def _matched_rows(ours: Arrays, theirs: Arrays, tolerance: Tolerance) -> NDArray[np.int64]:
    """Pairs of row numbers [N,2] of the same detection in two outputs for one image, in any order.

    If all K rows hold a detection, either of two detections whose scores are equal within the tolerance may
    have taken the last row, so detections with the lowest score may remain unmatched.
    """
    counts = [int((side["scores"] > 0).sum()) for side in (ours, theirs)]
    if counts[0] != counts[1]:
        raise OutputDifferenceError(f"{counts[0]} detections became {counts[1]}")
    unmatched = theirs["scores"] > 0
    last_score = ours["scores"].min() + tolerance.score if unmatched.all() else 0.0
    pairs = []
    for row in np.flatnonzero(ours["scores"] > 0):
        score, label = ours["scores"][row], ours["labels"][row]
        score_difference = np.abs(theirs["scores"] - score)
        same = unmatched & (score_difference <= tolerance.score) & (theirs["labels"] == label)
        if "boxes" in ours:
            same &= np.abs(theirs["boxes"] - ours["boxes"][row]).max(-1) <= tolerance.box
        if same.any():
            match = int(np.where(same, score_difference, np.inf).argmin())
            unmatched[match] = False
            pairs.append((row, match))
        elif score > last_score:
            raise OutputDifferenceError(f"the detection of label {label} with score {score:.4f} is missing")
    return np.array(pairs, np.int64).reshape(-1, 2)


def _compare_values(name: str, ours: NDArray[Any], theirs: NDArray[Any], tolerance: Tolerance) -> None:
    real = np.issubdtype(ours.dtype, np.floating)
    same = np.isclose(ours, theirs, rtol=tolerance.value, atol=tolerance.value) if real else ours == theirs
    if np.count_nonzero(~same) > tolerance.share * same.size:
        raise OutputDifferenceError(f"{name} differs")
