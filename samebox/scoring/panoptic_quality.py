"""Scores of segments: panoptic quality and mean IoU."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samebox.coco.panoptic import Category, PanopticResult, PanopticSet, SegmentMap
from samebox.core.errors import SameboxError
from samebox.scoring.average_precision import Scores

_WHOSE = (("", None), ("_things", True), ("_stuff", False))  # suffix of a score, and the kind of its classes


@dataclass
class _Tally:
    """What was counted of one category: matched segments and the sum of their IoU, and the others."""

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
    """Panoptic quality (`panoptic`) and mean IoU (`semantics`) of results on the images named.

    Panoptic quality (Kirillov et al., 2019, arXiv:1801.00868) is counted as COCO's own tool does: its `stats`
    are PQ, SQ and RQ, also of things and of stuff alone, means over the classes that occur in the ground
    truth or the results; its `per_class` is the PQ of each. Mean IoU is of every pixel's class before objects
    are laid over it, as detectron2 has it: all things are one class; mIoU is the mean over the classes that
    occur in the ground truth. All in points from 0 to 100, None where nothing occurs. In an image without a
    result nothing was found. Raises SameboxError where the ground truth lacks an image, or is of another
    size.
    """
    by_image = {result.image_id: result for result in results}
    tallies = {category.id: _Tally() for category in dataset.categories}
    classes = _Classes(dataset.categories)
    for image in image_ids:
        truth, result = dataset.segment_map(image), by_image.get(image)
        found = SegmentMap(np.zeros_like(truth.ids), {}) if result is None else result.segment_map()
        if truth.ids.shape != found.ids.shape:
            sizes = (" by ".join(map(str, one.ids.shape)) for one in (truth, found))
            raise SameboxError(
                f"image {image}: its panoptic PNG is {{}}, the image {{}} pixels".format(*sizes)
            )
        places = _places(truth)
        _count(truth, found, places, tallies)
        classes.count(truth, places, None if result is None else result.stuff_map())
    return {"panoptic": _quality(dataset.categories, tallies), "semantics": classes.scores()}


def _quality(categories: Sequence[Category], tallies: Mapping[int, _Tally]) -> Scores:
    qualities = {one: tallies[one.id].quality() for one in categories if tallies[one.id] != _Tally()}
    stats: dict[str, float | None] = {}
    for suffix, kind in _WHOSE:
        values = [value for one, value in qualities.items() if kind is None or one.is_thing == kind]
        means = (100 * np.mean(values, axis=0)).tolist() if values else [None] * 3
        stats |= {f"{name}{suffix}": mean for name, mean in zip(("PQ", "SQ", "RQ"), means, strict=True)}
    per_class = {one.name: 100 * qualities[one][0] if one in qualities else None for one in categories}
    return Scores(stats, per_class, precision={})


def _count(
    truth: SegmentMap, found: SegmentMap, places: NDArray[np.intp], tallies: Mapping[int, _Tally]
) -> None:
    """Add one image. Two segments of a category match where their IoU, void pixels aside, is above 0.5.

    A crowd matches nothing and is not missed. A segment found is not false where more than half of it is void
    or crowds of its category. `places`: of the truth's segments.
    """
    real, said = list(truth.categories.items()), list(found.categories.items())
    rows, columns = len(real) + 1, len(said) + 1
    pairs = np.bincount((places * columns + _places(found)).reshape(-1), minlength=rows * columns)
    common = pairs.reshape(rows, columns)  # pixels; the first row and column are void
    crowd = np.array([False, *(number in truth.crowds for number, _ in real)])
    same = np.zeros(common.shape, bool)
    same[1:, 1:] = [[category == other for _, other in said] for _, category in real] if real else False
    union = common.sum(1, keepdims=True) + common.sum(0) - common - common[0]
    iou = np.where(same & ~crowd[:, None], common / np.maximum(union, 1), 0)
    matched = iou > 0.5
    ignored = common[0] + np.where(same & crowd[:, None], common, 0).sum(0)
    for row, (_, category) in enumerate(real, start=1):
        if matched[row].any():
            tallies[category].matched += 1
            tallies[category].iou += float(iou[row].max())
        elif not crowd[row]:
            tallies[category].missed += 1
    for column, (_, category) in enumerate(said, start=1):
        if not matched[:, column].any() and ignored[column] <= 0.5 * common[:, column].sum():
            tallies[category].false += 1


class _Classes:
    """Which classes pixels have and which were found: things, all in one, and each class of stuff."""

    def __init__(self, categories: Sequence[Category]) -> None:
        stuff = [category for category in categories if not category.is_thing]
        self.names = ["things", *(category.name for category in stuff)]
        # category → class; a thing's stays at 0
        self.index = np.zeros(1 + max((category.id for category in categories), default=0), np.intp)
        self.index[[category.id for category in stuff]] = np.arange(1, len(self.names))
        # rows: the ground truth's classes, then void; columns: those found, then none
        self.pixels = np.zeros((len(self.names) + 1,) * 2, np.int64)

    def count(
        self, truth: SegmentMap, places: NDArray[np.intp], stuff: NDArray[np.unsignedinteger] | None
    ) -> None:
        """Add one image: its true segments, and the category of stuff found in each pixel."""
        none = len(self.names)
        real = np.array([none, *(self.index[category] for category in truth.categories.values())])[places]
        pairs = real * (none + 1) + (none if stuff is None else self.index[stuff])
        self.pixels += np.bincount(pairs.reshape(-1), minlength=self.pixels.size).reshape(self.pixels.shape)

    def scores(self) -> Scores:
        """Void pixels do not count."""
        valid = self.pixels[:-1]
        common, real, said = valid.diagonal(), valid.sum(1), valid.sum(0)[:-1]
        iou = 100 * common / np.maximum(real + said - common, 1)
        occurs = real > 0
        per_class = {
            name: value if there else None
            for name, value, there in zip(self.names, iou.tolist(), occurs.tolist(), strict=True)
        }
        return Scores({"mIoU": float(iou[occurs].mean()) if occurs.any() else None}, per_class, precision={})


def _places(segmented: SegmentMap) -> NDArray[np.intp]:
    """Each pixel's segment, by its place among the categories from 1 on; 0 for void."""
    numbers = np.array([0, *segmented.categories])
    order = numbers.argsort()
    at = np.searchsorted(numbers, segmented.ids, sorter=order).clip(max=len(numbers) - 1)
    return np.where(numbers[order][at] == segmented.ids, order[at], 0)
