"""How far two answers to the same image agree."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samebox.postprocess.detections import Detections
from samebox.postprocess.keypoints import keypoint_distances
from samebox.postprocess.masks import mask_iou
from samebox.postprocess.matching import LabelledBoxes, match_one_to_one
from samebox.postprocess.panoptic import same_class_share

# Float32 convolutions differ by less than this between runtimes, in pixels and in score; of a mask
# only pixels whose probability is nearly 0.5 differ, and few keypoints have two peaks of nearly one height
ALIKE = {"box": 0.1, "score": 1e-3, "mask": 0.99, "keypoint": 1.0}
LEAST_SHARE = 0.99


@dataclass(frozen=True)
class Agreement:
    """Two answers' detections, paired one to one by class and overlap.

    `reference` and `found` count each answer's detections; `box` [N] is the largest difference of a
    coordinate in pixels, `score` [N] the difference of the scores and `mask` [N] the IoU of the masks, of
    each of the N pairs, `keypoint` [N] the median distance in pixels of their keypoints, `pixels` the share
    of the image's pixels in segments of the same class; these three are None where an answer has none.
    """

    reference: int
    found: int
    box: NDArray[np.float32]
    score: NDArray[np.float32]
    mask: NDArray[np.float64] | None = None
    keypoint: NDArray[np.float32] | None = None
    pixels: float | None = None

    def share(self, box: float, score: float, mask: float = 0.0, keypoint: float = np.inf) -> float:
        """The share, of the longer answer, of pairs that differ by at most `box` pixels and `score`.

        Where there are masks, theirs must have an IoU of `mask` at least; where there are keypoints, half of
        theirs may be `keypoint` pixels apart.
        """
        alike = (self.box <= box) & (self.score <= score)
        if self.mask is not None:
            alike &= self.mask >= mask
        if self.keypoint is not None:
            alike &= self.keypoint <= keypoint
        agreeing = int(alike.sum())
        return agreeing / max(self.reference, self.found, 1) if self.reference or self.found else 1.0

    def __str__(self) -> str:
        """The figures in one line."""
        largest = f"{self.box.max():.2g} px and {self.score.max():.2g} in score" if len(self.box) else "none"
        pairs = f"{len(self.box)} of {self.reference} detections found again, {self.found} in all"
        told = f"{pairs}; largest difference {largest}"
        if self.mask is not None and len(self.mask):
            told += f"; least mask IoU {self.mask.min():.4g}"
        if self.keypoint is not None and len(self.keypoint):
            told += f"; largest median distance of keypoints {self.keypoint.max():.2g} px"
        if self.pixels is not None:
            told += f"; {self.pixels:.2%} of the pixels of the same class"
        return told


def agreement(reference: Detections, found: Detections) -> Agreement:
    """The agreement of two answers, whose detections are paired as `match_one_to_one` does."""
    ours, theirs, _ = match_one_to_one(_labelled_boxes(reference), _labelled_boxes(found))
    masks = keypoints = pixels = None
    if reference.masks is not None and found.masks is not None:
        masks = mask_iou(reference.masks[ours], found.masks[theirs])
    if reference.keypoints is not None and found.keypoints is not None:
        keypoints = keypoint_distances(reference.keypoints[ours], found.keypoints[theirs])
    if reference.panoptic is not None and found.panoptic is not None:
        pixels = same_class_share(reference.panoptic, found.panoptic)
    return Agreement(
        len(reference),
        len(found),
        np.abs(reference.boxes[ours] - found.boxes[theirs]).max(1, initial=0),
        np.abs(reference.scores[ours] - found.scores[theirs]),
        masks,
        keypoints,
        pixels,
    )


def _labelled_boxes(detections: Detections) -> LabelledBoxes:
    return LabelledBoxes(detections.boxes, detections.scores, detections.labels)
