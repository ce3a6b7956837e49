"""The overlaps of an image's boxes with its objects, from which VOC's mAP and recall are computed."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO

from samebox.coco.results import corners
from samebox.postprocess.matching import box_iou


@dataclass(frozen=True)
class Overlaps:
    """The detected boxes of one image, by descending score, and its objects, crowds last.

    `iou` [D,G]: the IoU of each box with each object, also with crowds. `scores` [D] and `categories` [D] of
    the boxes. `objects` [G]: the categories of the objects; `areas` [G]: their annotated areas in pixels;
    `crowds` [G]: whether each stands for a group of objects.
    """

    iou: NDArray[np.float64]
    scores: NDArray[np.float64]
    categories: NDArray[np.int64]
    objects: NDArray[np.int64]
    areas: NDArray[np.float64]
    crowds: NDArray[np.bool_]


def overlaps(
    ground_truth: COCO, results: Sequence[dict[str, Any]], image_ids: Iterable[int]
) -> Iterator[Overlaps]:
    """The overlaps of each given image, in the given order, from COCO results with a `bbox`.

    As in pycocotools, boxes of equal score are ordered by category, then as in `results`.
    """
    images, categories = (_column(results, key, np.int64) for key in ("image_id", "category_id"))
    scores, boxes = _column(results, "score"), corners(_column(results, "bbox"))
    order = np.lexsort((categories, -scores, images))
    images, categories, scores, boxes = images[order], categories[order], scores[order], boxes[order]
    for image_id in image_ids:
        of_image = slice(*images.searchsorted([image_id, image_id + 1]))
        truth = sorted(ground_truth.imgToAnns[image_id], key=lambda entry: entry["iscrowd"])
        yield Overlaps(
            iou=box_iou(boxes[of_image], corners(_column(truth, "bbox"))),
            scores=scores[of_image],
            categories=categories[of_image],
            objects=_column(truth, "category_id", np.int64),
            areas=_column(truth, "area"),
            crowds=_column(truth, "iscrowd", np.bool_),
        )


def _column(entries: Sequence[dict[str, Any]], key: str, kind: type = np.float64) -> NDArray[Any]:
    return np.array([entry[key] for entry in entries], kind)
