"""How two forms of a detector differ, detection by detection."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from samebox.coco.results import corners
from samebox.postprocess.keypoints import keypoint_distances
from samebox.postprocess.matching import LabelledBoxes, match_one_to_one

MOVED_IOU = 0.99  # one that overlaps less has moved
RESCORED = 1e-3  # scores further apart differ

_QUANTILES = (50, 90, 99, 100)  # percent of the matched

_Results = Sequence[dict[str, Any]]
_Indices = NDArray[np.intp]
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """What became of the reference's detections in another form.

    `counts`: those `matched`, among them those `moved` (box or mask to an IoU below 0.99, keypoints by 1 % of
    a square as large as the box) and `rescored` (by more than 0.001), those `lost`, and the `new` ones of the
    other form. `box` and `score`, of the matched,
    are quantiles by percent of the largest difference of a coordinate x1 y1 x2 y2, in pixels, and of the
    scores' difference. `highest` is the highest score of those `lost` and `new`: near the score threshold,
    and in an image with as many detections as are kept, some come and go. All these are 0 of no detection.
    `images` are the ids of those in which any of this occurs, each with how much, most first: the sum of the
    scores of what was lost or is new, of the matched ones' differences of scores, and of their score times
    1 - IoU.
    """

    counts: dict[str, int]
    box: dict[str, float]
    score: dict[str, float]
    highest: dict[str, float]
    images: tuple[tuple[int, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON takes them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Difference":
        """The inverse of `as_dict`, also after JSON, which knows lists for tuples."""
        return cls(**{**fields, "images": tuple((image, amount) for image, amount in fields["images"])})


def difference(reference: _Results, other: _Results) -> Difference:
    """How COCO results differ from those of the reference.

    Detections of the same image and class are matched one to one by the IoU of their boxes, from 0.5 on: the
    largest first, of equal ones that with the nearest scores.
    """
    ours, theirs = _Detections(reference), _Detections(other)
    rows, columns, overlap = _matched(ours, theirs)
    if ours.masks and theirs.masks:
        pairs = zip(rows.tolist(), columns.tolist(), strict=True)
        overlap = np.minimum(overlap, [_mask_iou(ours.masks[i], theirs.masks[j]) for i, j in pairs])
    if ours.keypoints is not None and theirs.keypoints is not None:
        sides = np.sqrt(ours.boxes[rows, 2:].prod(1)).clip(1)
        astray = keypoint_distances(ours.keypoints[rows], theirs.keypoints[columns]) / sides
        overlap = np.minimum(overlap, 1 - astray.clip(0, 1))
    apart = abs(ours.corners[rows] - theirs.corners[columns]).max(1, initial=0)
    rescore = abs(ours.scores[rows] - theirs.scores[columns])
    lost, new = np.delete(np.arange(len(ours)), rows), np.delete(np.arange(len(theirs)), columns)
    moved, rescored = overlap < MOVED_IOU, rescore > RESCORED
    differing = [
        (ours.images[rows], rescore + ours.scores[rows] * (1 - overlap), moved | rescored),
        (ours.images[lost], ours.scores[lost], np.ones(len(lost), bool)),
        (theirs.images[new], theirs.scores[new], np.ones(len(new), bool)),
    ]
    counts = {"matched": len(rows), "moved": moved.sum(), "rescored": rescored.sum()}
    return Difference(
        counts={name: int(count) for name, count in (counts | {"lost": len(lost), "new": len(new)}).items()},
        box=_quantiles(apart),
        score=_quantiles(rescore),
        highest={
            "lost": float(ours.scores[lost].max(initial=0)),
            "new": float(theirs.scores[new].max(initial=0)),
        },
        images=_ranked(*(np.concatenate(column) for column in zip(*differing, strict=True))),
    )


class _Detections:
    """Results as arrays: images and labels [N], boxes x y width height [N,4] and corners, scores [N].

    `masks` are their run-length codes, none where a detection lacks one, `keypoints` [N,P,3] or None so too.
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
        """The places of each image's detections."""
        order = np.argsort(self.images, kind="stable")
        images, starts = np.unique(self.images[order], return_index=True)
        return dict(zip(images.tolist(), np.split(order, starts)[1:], strict=True))

    def boxes_at(self, places: _Indices) -> LabelledBoxes:
        """Those at some places, as they are matched."""
        return LabelledBoxes(self.corners[places], self.scores[places], self.labels[places])


def _matched(ours: _Detections, theirs: _Detections) -> tuple[_Indices, _Indices, _Floats]:
    """The pairs of all images, by their places on either side, and the IoU of each."""
    there, nothing = theirs.by_image(), np.empty(0, np.intp)
    found = [(nothing, nothing, np.empty(0))]
    for image, here in ours.by_image().items():
        if image in there:
            rows, columns, overlap = match_one_to_one(ours.boxes_at(here), theirs.boxes_at(there[image]))
            found.append((here[rows], there[image][columns], overlap))
    rows, columns, overlap = map(np.concatenate, zip(*found, strict=True))
    return rows, columns, overlap


def _mask_iou(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The IoU of two run-length codes, 1 where both are empty."""
    if one == other:
        return 1.0
    return float(rle.iou([one], [other], [0])[0, 0])


def _quantiles(values: _Floats) -> dict[str, float]:
    found = np.percentile(values, _QUANTILES).tolist() if len(values) else [0.0] * len(_QUANTILES)
    return dict(zip(map(str, _QUANTILES), found, strict=True))


def _ranked(images: _Indices, amounts: _Floats, differs: NDArray[np.bool_]) -> tuple[tuple[int, float], ...]:
    """The images in which something differs, each with the sum of its amounts, most first."""
    ids, places = np.unique(images, return_inverse=True)
    sums = np.bincount(places, amounts, len(ids))
    kept = np.flatnonzero(np.bincount(places, differs, len(ids)))
    ranked = kept[np.argsort(-sums[kept], kind="stable")]
    return tuple(zip(ids[ranked].tolist(), sums[ranked].tolist(), strict=True))
