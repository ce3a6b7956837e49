"""Panoptic quality (Kirillov et al., 2019, arXiv:1801.00868) and mean IoU of semantic segmentation."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samebox.coco.panoptic import Category, PanopticResult, PanopticSet, SegmentMap
from samebox.core.errors import SameboxError
from samebox.scoring.average_precision import Scores

# Suffix of a score → whether it is about things or stuff; None: both
_GROUPS = {"": None, "_things": True, "_stuff": False}


@dataclass
class _Tally:
    """The counts of one category: matched segments and the sum of their IoU, false and missed segments."""

    iou: float = 0.0
    matched: int = 0
    false: int = 0
    missed: int = 0

    def quality(self) -> tuple[float, float, float]:
        """PQ, SQ and RQ, 0 to 1."""
        weight = self.matched + 0.5 * self.false + 0.5 * self.missed
        return self.iou / weight, self.iou / self.matched if self.matched else 0.0, self.matched / weight


def panoptic_scores(
    dataset: PanopticSet, results: Iterable[PanopticResult], image_ids: Iterable[int]
) -> dict[str, Scores]:
    """Panoptic quality (`panoptic`) and mean IoU (`semantics`) of results on the given images.

    Panoptic quality is counted as by COCO's own tool. Its `stats` are PQ, SQ and RQ, also for things and for
    stuff alone: means over the classes that occur in the ground truth or the results. Its `per_class` is the
    PQ of each class. Mean IoU is about each pixel's class before objects are laid over it, as in detectron2:
    all things are one class. mIoU is the mean over the classes that occur in the ground truth. All are in
    points from 0 to 100, None if no class occurs. An image without a result counts as without segments.
    Raises SameboxError if the ground truth lacks an image or has another size.
    """
    by_image = {result.image_id: result for result in results}
    tallies = {category.id: _Tally() for category in dataset.categories}
    classes = _ClassMatrix(dataset.categories)
    for image in image_ids:
        truth, result = dataset.segment_map(image), by_image.get(image)
        predicted = SegmentMap(np.zeros_like(truth.ids), {}) if result is None else result.segment_map()
        if truth.ids.shape != predicted.ids.shape:
            sizes = (" by ".join(map(str, one.ids.shape)) for one in (truth, predicted))
            raise SameboxError("image {}: its panoptic PNG is {}, the image {} pixels".format(image, *sizes))
        indices = _segment_indices(truth)
        _count(truth, predicted, indices, tallies)
        classes.count(truth, indices, None if result is None else result.stuff_map())
    return {"panoptic": _quality(dataset.categories, tallies), "semantics": classes.scores()}


def _quality(categories: Sequence[Category], tallies: Mapping[int, _Tally]) -> Scores:
    qualities = {one: tallies[one.id].quality() for one in categories if tallies[one.id] != _Tally()}
    stats: dict[str, float | None] = {}
    for suffix, things in _GROUPS.items():
        values = [value for one, value in qualities.items() if things is None or one.is_thing == things]
        means = (100 * np.mean(values, axis=0)).tolist() if values else [None] * 3
        stats |= {f"{name}{suffix}": mean for name, mean in zip(("PQ", "SQ", "RQ"), means, strict=True)}
    per_class = {one.name: 100 * qualities[one][0] if one in qualities else None for one in categories}
    return Scores(stats, per_class, precision={})


def _count(
    truth: SegmentMap, predicted: SegmentMap, indices: NDArray[np.intp], tallies: Mapping[int, _Tally]
) -> None:
    """Add one image to the tallies; `indices` are the true segments' indices by pixel.

    Two segments of a category match if their IoU is above 0.5; void pixels do not count in it. A crowd
    matches nothing and is not missed. A predicted segment is not false if more than half of it is void or
    crowds of its category.
    """
    true, claimed = list(truth.categories.items()), list(predicted.categories.items())
    rows, columns = len(true) + 1, len(claimed) + 1
    pairs = np.bincount(
        (indices * columns + _segment_indices(predicted)).reshape(-1), minlength=rows * columns
    )
    common = pairs.reshape(rows, columns)  # pixels; the first row and column are void
    crowd = np.array([False, *(number in truth.crowds for number, _ in true)])
    same = np.zeros(common.shape, bool)
    same[1:, 1:] = [[category == other for _, other in claimed] for _, category in true] if true else False
    union = common.sum(1, keepdims=True) + common.sum(0) - common - common[0]
    iou = np.where(same & ~crowd[:, None], common / np.maximum(union, 1), 0)
    matched = iou > 0.5
    ignored = common[0] + np.where(same & crowd[:, None], common, 0).sum(0)
    for row, (_, category) in enumerate(true, start=1):
        if matched[row].any():
            tallies[category].matched += 1
            tallies[category].iou += float(iou[row].max())
        elif not crowd[row]:
            tallies[category].missed += 1
    for column, (_, category) in enumerate(claimed, start=1):
        if not matched[:, column].any() and ignored[column] <= 0.5 * common[:, column].sum():
            tallies[category].false += 1


class _ClassMatrix:
    """The confusion matrix of pixel classes: all things as one class, and each class of stuff."""

    def __init__(self, categories: Sequence[Category]) -> None:
        stuff = [category for category in categories if not category.is_thing]
        self.names = ["things", *(category.name for category in stuff)]
        # category id → class; things keep class 0
        self.index = np.zeros(1 + max((category.id for category in categories), default=0), np.intp)
        self.index[[category.id for category in stuff]] = np.arange(1, len(self.names))
        # rows: classes of the ground truth, then void; columns: predicted classes, then none
        self.pixels = np.zeros((len(self.names) + 1,) * 2, np.int64)

    def count(
        self, truth: SegmentMap, indices: NDArray[np.intp], stuff: NDArray[np.unsignedinteger] | None
    ) -> None:
        """Add one image: the true segments, their indices by pixel, and the predicted stuff by pixel."""
        none = len(self.names)
        true = np.array([none, *(self.index[category] for category in truth.categories.values())])[indices]
        pairs = true * (none + 1) + (none if stuff is None else self.index[stuff])
        self.pixels += np.bincount(pairs.reshape(-1), minlength=self.pixels.size).reshape(self.pixels.shape)

    def scores(self) -> Scores:
        """IoU of each class and their mean; void pixels do not count."""
        valid = self.pixels[:-1]
        common, true, predicted = valid.diagonal(), valid.sum(1), valid.sum(0)[:-1]
        iou = 100 * common / np.maximum(true + predicted - common, 1)
        occurs = true > 0
        per_class = {
            name: value if present else None
            for name, value, present in zip(self.names, iou.tolist(), occurs.tolist(), strict=True)
        }
        return Scores({"mIoU": float(iou[occurs].mean()) if occurs.any() else None}, per_class, precision={})


def _segment_indices(segments: SegmentMap) -> NDArray[np.intp]:
    """Each pixel's segment, as its index in `categories` counted from 1; 0 for void."""
    numbers = np.array([0, *segments.categories])
    order = numbers.argsort()
    at = np.searchsorted(numbers, segments.ids, sorter=order).clip(max=len(numbers) - 1)
    return np.where(numbers[order][at] == segments.ids, order[at], 0)
