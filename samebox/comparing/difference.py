"""The difference of two forms of a detector, detection by detection."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from samebox.coco.results import corners
from samebox.postprocess.keypoints import keypoint_distances
from samebox.postprocess.matching import LabelledBoxes, match_one_to_one

MOVED_IOU = 0.99  # a matched detection with a lower IoU has moved
RESCORED = 1e-3  # a matched detection whose score differs by more is rescored

_QUANTILES = (50, 90, 99, 100)  # percent of the matched detections

_Results = Sequence[dict[str, Any]]
_Indices = NDArray[np.intp]
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """What became of the reference's detections in another form.

    `counts`: the number of `matched` detections; of these, the `moved` ones (box or mask IoU below 0.99, or
    keypoints off by 1 % of the side of a square as large as the box) and the `rescored` ones (by more than
    0.001); the `lost` detections of the reference, and the `new` ones of the other form. `box` and `score`
    are quantiles, by percent, over the matched detections: of the largest difference of a coordinate x1 y1 x2
    y2 in pixels, and of the difference of the scores. `highest`: the highest score among the `lost` and among
    the `new`; near the score threshold, and in an image with as many detections as are kept, some
    are usually lost or new. All of these are 0 if there are no such detections.

    `images`: the ids of the images with any difference, each with its amount, largest first. The amount is
    the sum of the scores of lost and new detections, of the score differences of matched ones, and of their
    score times 1 - IoU.
    """

    counts: dict[str, int]
    box: dict[str, float]
    score: dict[str, float]
    highest: dict[str, float]
    images: tuple[tuple[int, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Difference":
        """The inverse of `as_dict`, also after JSON has turned tuples into lists."""
        return cls(**{**fields, "images": tuple((image, amount) for image, amount in fields["images"])})


def difference(reference: _Results, other: _Results) -> Difference:
    """The difference of COCO results from those of the reference.

    The detections of each image are matched by `match_one_to_one`.
    """
    ours, theirs = _Detections(reference), _Detections(other)
    rows, columns, overlap = _matched(ours, theirs)
    if ours.masks and theirs.masks:
        pairs = zip(rows.tolist(), columns.tolist(), strict=True)
        overlap = np.minimum(overlap, [_mask_iou(ours.masks[i], theirs.masks[j]) for i, j in pairs])
    if ours.keypoints is not None and theirs.keypoints is not None:
        sides = np.sqrt(ours.boxes[rows, 2:].prod(1)).clip(1)
        offsets = keypoint_distances(ours.keypoints[rows], theirs.keypoints[columns]) / sides
        overlap = np.minimum(overlap, 1 - offsets.clip(0, 1))
    box_change = abs(ours.corners[rows] - theirs.corners[columns]).max(1, initial=0)
    score_change = abs(ours.scores[rows] - theirs.scores[columns])
    lost, new = np.delete(np.arange(len(ours)), rows), np.delete(np.arange(len(theirs)), columns)
    moved, rescored = overlap < MOVED_IOU, score_change > RESCORED
    amounts = [
        (ours.images[rows], score_change + ours.scores[rows] * (1 - overlap), moved | rescored),
        (ours.images[lost], ours.scores[lost], np.ones(len(lost), bool)),
        (theirs.images[new], theirs.scores[new], np.ones(len(new), bool)),
    ]
    counts = {"matched": len(rows), "moved": moved.sum(), "rescored": rescored.sum()}
    return Difference(
        counts={name: int(count) for name, count in (counts | {"lost": len(lost), "new": len(new)}).items()},
        box=_quantiles(box_change),
        score=_quantiles(score_change),
        highest={
            "lost": float(ours.scores[lost].max(initial=0)),
            "new": float(theirs.scores[new].max(initial=0)),
        },
        images=_ranked(*(np.concatenate(column) for column in zip(*amounts, strict=True))),
    )


class _Detections:
    """COCO results as arrays: images and labels [N], boxes x y width height [N,4], corners [N,4], scores [N].

    `masks` are run-length codes, empty if a detection has none; `keypoints` [N,P,3], None if one has none.
    """

    def __init__(self, results: _Results) -> None:
        self.images = np.array([result["image_id"] for result in results], np.int64)
        self.labels = np.array([result["category_id"] for result in results], np.int64)
        self.boxes = np.array([result["bbox"] for result in results], np.float64).reshape(-1, 4)
        self.corners = corners(self.boxes)
        self.scores = np.array([result["score"] for result in results], np.float64)
        codes = [result.get("segmentation") for result in results]
        self.masks = codes if all(codes) else []
        points = [result["keypoints"] for result in results if "keypoints" in result]
        self.keypoints = np.reshape(points, (len(points), -1, 3)) if len(points) == len(self) > 0 else None

    def __len__(self) -> int:
        return len(self.scores)

    def by_image(self) -> dict[int, _Indices]:
        """The indices of each image's detections."""
        order = np.argsort(self.images, kind="stable")
        images, starts = np.unique(self.images[order], return_index=True)
        return dict(zip(images.tolist(), np.split(order, starts)[1:], strict=True))

    def labelled_boxes(self, indices: _Indices) -> LabelledBoxes:
        """The detections at the indices, in the form in which they are matched."""
        return LabelledBoxes(self.corners[indices], self.scores[indices], self.labels[indices])


def _matched(ours: _Detections, theirs: _Detections) -> tuple[_Indices, _Indices, _Floats]:
    """The matched pairs of all images: indices into either side [P], and the box IoU [P]."""
    other_indices, empty = theirs.by_image(), np.empty(0, np.intp)
    pairs = [(empty, empty, np.empty(0))]
    for image, indices in ours.by_image().items():
        if image in other_indices:
            others = other_indices[image]
            rows, columns, iou = match_one_to_one(ours.labelled_boxes(indices), theirs.labelled_boxes(others))
            pairs.append((indices[rows], others[columns], iou))
    rows, columns, iou = map(np.concatenate, zip(*pairs, strict=True))
    return rows, columns, iou


def _mask_iou(code: dict[str, Any], other: dict[str, Any]) -> float:
    """The IoU of two run-length codes, 1 if both are empty."""
    if code == other:
        return 1.0
    return float(rle.iou([code], [other], [0])[0, 0])


def _quantiles(values: _Floats) -> dict[str, float]:
    quantiles = np.percentile(values, _QUANTILES).tolist() if len(values) else [0.0] * len(_QUANTILES)
    return dict(zip(map(str, _QUANTILES), quantiles, strict=True))


def _ranked(images: _Indices, amounts: _Floats, differs: NDArray[np.bool_]) -> tuple[tuple[int, float], ...]:
    """The ids of the images in which a detection differs, each with the sum of its amounts, largest first."""
    ids, places = np.unique(images, return_inverse=True)
    sums = np.bincount(places, amounts, len(ids))
    kept = np.flatnonzero(np.bincount(places, differs, len(ids)))
    ranked = kept[np.argsort(-sums[kept], kind="stable")]
    return tuple(zip(ids[ranked].tolist(), sums[ranked].tolist(), strict=True))
