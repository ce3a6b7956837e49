"""PASCAL VOC's mean average precision of boxes (Everingham et al., 2010, doi:10.1007/s11263-009-0275-4)."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samebox.scoring.average_precision import Scores
from samebox.scoring.overlaps import Overlaps

IOU = 0.5  # least IoU of a box and an object that match


def voc_scores(images: Iterable[Overlaps], class_names: Mapping[int, str]) -> dict[str, Scores]:
    """VOC's mAP as the area under the precision-recall curve (`voc`) and by the 11 points of 2007 (`voc07`).

    A box belongs to the object of its class with the largest IoU, if that is at least 0.5. Of the boxes of an
    object, the one with the highest score is a true positive, the others are false positives. The boxes of a
    crowd are neither, like those of VOC's "difficult" objects. All boxes count, without a limit per image.
    The width of a box is x2 - x1 as in COCO and in MMDetection's `eval_map`, not x2 - x1 + 1 as in the
    devkit.

    `class_names` are the categories by id. `mAP` is the mean over the classes that have objects. In points
    from 0 to 100, None if there are no objects.
    """
    images = list(images)
    judged = [_judged(image) for image in images]
    true_positive, counted = (_concatenated([pair[which] for pair in judged], np.bool_) for which in (0, 1))
    scores = _concatenated([image.scores for image in images], np.float64)
    categories = _concatenated([image.categories for image in images], np.int64)
    objects = _concatenated([image.objects[~image.crowds] for image in images], np.int64)
    order = np.flatnonzero(counted)[np.argsort(-scores[counted], kind="stable")]
    by_class: dict[str, tuple[float, float] | None] = {}
    for number, name in class_names.items():
        count = int(np.count_nonzero(objects == number))
        of_class = order[categories[order] == number]
        by_class[name] = average_precision(true_positive[of_class], count) if count else None
    return {kind: _scores(by_class, index) for index, kind in enumerate(("voc", "voc07"))}


def average_precision(true_positive: NDArray[np.bool_], objects: int) -> tuple[float, float]:
    """The area under the precision-recall curve, and the mean precision at recalls 0, 0.1, … 1; from 0 to 1.

    `true_positive` [D] is about the boxes of a class by descending score, `objects` the number of its
    objects. The precision at a recall is the highest at that recall or at a larger one.
    """
    hits = true_positive.cumsum()
    precision = hits / np.arange(1, len(true_positive) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    # in integers, so that 3 of 10 objects are a recall of exactly 0.3
    reached = (10 * hits).searchsorted(np.arange(11) * objects)
    at_points = np.append(highest, 0.0)[reached]
    return float(highest[true_positive].sum() / objects), float(at_points.mean())


def _judged(image: Overlaps) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each box [D], whether it is a true positive, and whether it counts."""
    true_positive, counted = np.zeros(len(image.scores), bool), np.ones(len(image.scores), bool)
    if image.iou.size:
        same = image.categories[:, None] == image.objects
        iou = np.where(same, image.iou, -1.0)
        best, matched = iou.argmax(1), iou.max(1) >= IOU
        targets, first = np.unique(best[matched], return_index=True)
        true_positive[np.flatnonzero(matched)[first]] = ~image.crowds[targets]
        counted = ~(matched & image.crowds[best])
    return true_positive, counted


def _concatenated(parts: list[NDArray[Any]], kind: type) -> NDArray[Any]:
    return np.concatenate([np.empty(0, kind), *parts])


def _scores(by_class: Mapping[str, tuple[float, float] | None], index: int) -> Scores:
    per_class = {name: None if pair is None else 100 * pair[index] for name, pair in by_class.items()}
    values = [value for value in per_class.values() if value is not None]
    return Scores({"mAP": float(np.mean(values)) if values else None}, per_class, precision={})
