"""PASCAL VOC's mean average precision of boxes (Everingham et al., 2010, doi:10.1007/s11263-009-0275-4)."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samebox.scoring.average_precision import Scores
from samebox.scoring.overlaps import Overlaps

IOU = 0.5  # from which on a box matches an object


def voc_scores(images: Iterable[Overlaps], class_names: Mapping[int, str]) -> dict[str, Scores]:
    """VOC's mAP as the area under the precision (`voc`) and by its eleven points of 2007 (`voc07`).

    A box belongs to the object of its class with which its IoU is largest, if that is 0.5 or more. Of an
    object's boxes the one with the highest score is right, the others are wrong; those of a crowd are
    neither, as with VOC's "difficult" objects. All boxes count, however many an image has. Boxes are as wide
    as COCO's, without a pixel more, which is how MMDetection's `eval_map` has them.

    `class_names` are the categories. `mAP` is the mean over the classes that have objects. In points from 0
    to 100, None where there are none.
    """
    told = list(images)
    judged = [_judged(image) for image in told]
    right, counted = (_joined([one[which] for one in judged], np.bool_) for which in (0, 1))
    scores = _joined([image.scores for image in told], np.float64)
    categories = _joined([image.categories for image in told], np.int64)
    objects = _joined([image.objects[~image.crowds] for image in told], np.int64)
    order = np.flatnonzero(counted)[np.argsort(-scores[counted], kind="stable")]
    found: dict[str, tuple[float, float] | None] = {}
    for number, name in class_names.items():
        count = int(np.count_nonzero(objects == number))
        of_class = order[categories[order] == number]
        found[name] = average_precision(right[of_class], count) if count else None
    return {kind: _scores(found, index) for index, kind in enumerate(("voc", "voc07"))}


def average_precision(right: NDArray[np.bool_], objects: int) -> tuple[float, float]:
    """The area under the precision, and its mean at the recalls 0, 0.1, … 1; both from 0 to 1.

    `right` [D] says of the boxes of a class by descending score whether they are, `objects` how many there
    are. The precision at a recall is the highest at that recall or beyond it.
    """
    hits = right.cumsum()
    precision = hits / np.arange(1, len(right) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    # in whole numbers, so that 3 of 10 objects are a recall of 0.3
    reached = (10 * hits).searchsorted(np.arange(11) * objects)
    at_points = np.append(highest, 0.0)[reached]
    return float(highest[right].sum() / objects), float(at_points.mean())


def _judged(image: Overlaps) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each box [D] whether it is right, and whether it counts."""
    right, counted = np.zeros(len(image.scores), bool), np.ones(len(image.scores), bool)
    if image.iou.size:
        same = image.categories[:, None] == image.objects
        iou = np.where(same, image.iou, -1.0)
        best, matched = iou.argmax(1), iou.max(1) >= IOU
        targets, first = np.unique(best[matched], return_index=True)
        right[np.flatnonzero(matched)[first]] = ~image.crowds[targets]
        counted = ~(matched & image.crowds[best])
    return right, counted


def _joined(parts: list[NDArray[Any]], kind: type) -> NDArray[Any]:
    return np.concatenate([np.empty(0, kind), *parts])


def _scores(found: Mapping[str, tuple[float, float] | None], index: int) -> Scores:
    per_class = {name: None if pair is None else 100 * pair[index] for name, pair in found.items()}
    told = [value for value in per_class.values() if value is not None]
    return Scores({"mAP": float(np.mean(told)) if told else None}, per_class, precision={})
