"""How closely the detections of two forms agree on one image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samebox.postprocess.detections import Detections
from samebox.postprocess.keypoints import keypoint_distances
from samebox.postprocess.masks import mask_iou
from samebox.postprocess.matching import LabelledBoxes, match_one_to_one
from samebox.postprocess.panoptic import same_class_share

# Fp32 runtimes differ by less than this: boxes in pixels, scores, mask IoU, keypoints in pixels. In masks,
# only pixels with a probability of nearly 0.5 differ; few keypoints have two peaks of nearly the same height
ALIKE = {"box": 0.1, "score": 1e-3, "mask": 0.99, "keypoint": 1.0}
LEAST_SHARE = 0.99  # of the detections that must differ by no more than that


@dataclass(frozen=True)
class Agreement:
    """The detections of two forms on one image, matched one to one by class and overlap.

    `reference` and `other` are the numbers of detections. For each of the N pairs: `box` [N] is the largest
    difference of a coordinate in pixels, `score` [N] the difference of the scores, `mask` [N] the IoU of the
    masks, `keypoint` [N] the median distance of the keypoints in pixels. `pixels` is the share of the image's
    pixels in segments of the same class. The last three are None unless both forms have masks, keypoints or
    segments.
    """

    reference: int
    other: int
    box: NDArray[np.float32]
    score: NDArray[np.float32]
    mask: NDArray[np.float64] | None = None
    keypoint: NDArray[np.float32] | None = None
    pixels: float | None = None

    def share(self, box: float, score: float, mask: float = 0.0, keypoint: float = np.inf) -> float:
        """Pairs that differ by at most `box` pixels and `score`, divided by the larger number of detections.

        Masks must have an IoU of at least `mask`, keypoints a median distance of at most `keypoint` pixels.
        The share is 1 if neither form has detections.
        """
        alike = (self.box <= box) & (self.score <= score)
        if self.mask is not None:
            alike &= self.mask >= mask
        if self.keypoint is not None:
            alike &= self.keypoint <= keypoint
        agreeing = int(alike.sum())
        return agreeing / max(self.reference, self.other, 1) if self.reference or self.other else 1.0

    def __str__(self) -> str:
        """The figures in one line."""
        largest = f"{self.box.max():.2g} px and {self.score.max():.2g} in score" if len(self.box) else "none"
        line = (
            f"{len(self.box)} of {self.reference} detections matched, {self.other} in the other form; "
            f"largest difference {largest}"
        )
        if self.mask is not None and len(self.mask):
            line += f"; least mask IoU {self.mask.min():.4g}"
        if self.keypoint is not None and len(self.keypoint):
            line += f"; largest median distance of keypoints {self.keypoint.max():.2g} px"
        if self.pixels is not None:
            line += f"; {self.pixels:.2%} of the pixels have the same class"
        return line


def agreement(reference: Detections, other: Detections) -> Agreement:
    """The agreement of two forms' detections of one image, matched by `match_one_to_one`."""
    ours, theirs, _ = match_one_to_one(_labelled_boxes(reference), _labelled_boxes(other))
    masks = keypoints = pixels = None
    if reference.masks is not None and other.masks is not None:
        masks = mask_iou(reference.masks[ours], other.masks[theirs])
    if reference.keypoints is not None and other.keypoints is not None:
        keypoints = keypoint_distances(reference.keypoints[ours], other.keypoints[theirs])
    if reference.panoptic is not None and other.panoptic is not None:
        pixels = same_class_share(reference.panoptic, other.panoptic)
    return Agreement(
        len(reference),
        len(other),
        np.abs(reference.boxes[ours] - other.boxes[theirs]).max(1, initial=0),
        np.abs(reference.scores[ours] - other.scores[theirs]),
        masks,
        keypoints,
        pixels,
    )


def _labelled_boxes(detections: Detections) -> LabelledBoxes:
    return LabelledBoxes(detections.boxes, detections.scores, detections.labels)
