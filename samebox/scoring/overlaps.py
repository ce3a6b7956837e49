"""How the boxes found in an image overlap its objects: what scores besides COCO's AP are made of."""

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
    """The boxes found in one image, by descending score, and its objects, crowds last.

    `iou` [D,G] of each box with each object, crowds too; `scores` [D] and `categories` [D] of the boxes;
    `objects` [G] the categories of the objects, `areas` [G] theirs in pixels, as annotated, and `crowds` [G]
    whether each stands for a group.
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
    """Those of each image named, in this order, from COCO results with a `bbox`.

    Boxes of equal score come by category, and else as they came, as in pycocotools.
    """
    images, categories = (_numbers(results, key, np.int64) for key in ("image_id", "category_id"))
    scores, boxes = _numbers(results, "score"), corners(_numbers(results, "bbox"))
    order = np.lexsort((categories, -scores, images))
    images, categories, scores, boxes = images[order], categories[order], scores[order], boxes[order]
    for image_id in image_ids:
        own = slice(*images.searchsorted([image_id, image_id + 1]))
        truth = sorted(ground_truth.imgToAnns[image_id], key=lambda entry: entry["iscrowd"])
        yield Overlaps(
            iou=box_iou(boxes[own], corners(_numbers(truth, "bbox"))),
            scores=scores[own],
            categories=categories[own],
            objects=_numbers(truth, "category_id", np.int64),
            areas=_numbers(truth, "area"),
            crowds=_numbers(truth, "iscrowd", np.bool_),
        )


def _numbers(entries: Sequence[dict[str, Any]], key: str, kind: type = np.float64) -> NDArray[Any]:
    return np.array([entry[key] for entry in entries], kind)
