"""Is a difference of AP noise? A paired bootstrap over the images of a data set.

A resample draws as many images as there are, with replacement, and the same ones for every form. Which
detection matches which object does not depend on that, so pycocotools finds it once; in a resample an image
only counts as often as it was drawn.
"""

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import Params

from samebox.coco.dataset import CocoDataset
from samebox.coco.evaluated import EvaluatedForm
from samebox.core.errors import SameboxError
from samebox.scoring.average_precision import evaluation

LEVEL = 95  # percent of the resamples that an interval holds

_RECALLS = Params().recThrs
_LARGEST = 1 << 22  # numbers in an array: resamples times objects of a class

Interval = tuple[float, float]


@dataclass(frozen=True)
class ClassMatches:
    """The detections of one class by descending score, down to the last that is right at any IoU.

    `images` [D] is the place of each one's image, `objects` [G] that of each object's that is no crowd.
    `right` and `ignored` hold for each IoU the detections, by their place, that match an object, and those
    that match a crowd, or what else pycocotools leaves out.
    """

    images: NDArray[np.intp]
    objects: NDArray[np.intp]
    right: tuple[NDArray[np.intp], ...]
    ignored: tuple[NDArray[np.intp], ...]

    def average_precision(self, drawn: NDArray[np.int32]) -> NDArray[np.float64]:
        """COCO's AP [N], 0 to 1, with each image counted `drawn` [images,N] times; NaN without an object."""
        objects = drawn[self.objects].sum(0)
        places = np.unique(np.concatenate(self.right))
        bounds = pairwise([0, *(places + 1).tolist()])
        between = [drawn[self.images[low:high]].sum(0, dtype=np.int32) for low, high in bounds]
        seen = _accumulated(np.add, np.array(between, np.int32).reshape(-1, len(objects)))
        total = np.zeros(len(objects))
        for right, ignored in zip(self.right, self.ignored, strict=True):
            hits = _accumulated(np.add, drawn[self.images[right]])
            counted = seen[places.searchsorted(right)]
            if len(ignored):
                crowds = _accumulated(np.add, np.pad(drawn[self.images[ignored]], ((1, 0), (0, 0))))
                counted -= crowds[ignored.searchsorted(right)]
            precision = hits / np.maximum(counted, 1)
            highest = _accumulated(np.maximum, precision[::-1])[::-1]
            steps = np.diff(_reached(hits / np.maximum(objects, 1)), axis=0, prepend=0)
            total += (highest * steps).sum(0)
        return np.where(objects > 0, total / (len(self.right) * len(_RECALLS)), np.nan)


def _accumulated(operation: np.ufunc, rows: NDArray[Any]) -> NDArray[Any]:
    """`operation.accumulate(rows)` in place: a row at a time, many times as fast where rows are long."""
    for before, row in pairwise(rows):
        operation(before, row, out=row)
    return rows


def _reached(recall: NDArray[np.float64]) -> NDArray[np.int32]:
    """How many of COCO's recalls 0, 0.01, … 1 are at most each recall; `_RECALLS.searchsorted`, but faster.

    Where a recall is one of them up to rounding, pycocotools' own numbers say whether it is reached.
    """
    index = (recall * (len(_RECALLS) - 1) + 1e-9).astype(np.int32)
    return index + (_RECALLS.take(index) <= recall)


@dataclass(frozen=True)
class Matches:
    """What one form's results match, a class at a time: those that have an object or a detection."""

    classes: tuple[ClassMatches, ...]

    def average_precision(self, drawn: NDArray[np.int32]) -> NDArray[np.float64]:
        """COCO's AP [N] in points with each image counted `drawn` [images,N] times; NaN without an object."""
        resamples = drawn.shape[1]
        total, classes = np.zeros(resamples), np.zeros(resamples)
        for one in self.classes:
            parts = np.array_split(drawn, 1 + resamples * len(one.objects) // _LARGEST, axis=1)
            found = np.concatenate([one.average_precision(part) for part in parts])
            total += np.nan_to_num(found)
            classes += ~np.isnan(found)
        return 100 * np.divide(total, classes, out=np.full(resamples, np.nan), where=classes > 0)


def matches(
    ground_truth: COCO, results: Sequence[dict[str, Any]], image_ids: Iterable[int], iou_type: str = "bbox"
) -> Matches:
    """The matches of COCO results on the images named, by `bbox`, `segm` or `keypoints`.

    Raises what `score` does.
    """
    found = evaluation(ground_truth, results, image_ids, iou_type)
    params = found.params
    params.areaRng, params.maxDets = params.areaRng[:1], params.maxDets[-1:]  # all that AP is made of
    with contextlib.redirect_stdout(io.StringIO()):
        found.evaluate()
    count = len(params.imgIds)
    by_class = (found.evalImgs[start : start + count] for start in range(0, len(found.evalImgs), count))
    return Matches(tuple(_class_matches(entries) for entries in by_class if any(entries)))


def _class_matches(entries: Sequence[dict[str, Any] | None]) -> ClassMatches:
    """Of one class, from what pycocotools says of each image."""
    present = [(place, entry) for place, entry in enumerate(entries) if entry is not None]
    found = [np.full(len(entry["dtScores"]), place) for place, entry in present]
    objects = [np.full(np.count_nonzero(entry["gtIgnore"] == 0), place) for place, entry in present]
    scores = np.concatenate([entry["dtScores"] for _, entry in present])
    order = np.argsort(-scores, kind="mergesort")  # equal scores as pycocotools has them
    matched, ignored = (
        np.concatenate([entry[key] for _, entry in present], axis=1)[:, order].astype(bool)
        for key in ("dtMatches", "dtIgnore")
    )
    right = matched & ~ignored
    last = 1 + max(np.flatnonzero(right.any(0)), default=-1)
    return ClassMatches(
        np.concatenate(found)[order][:last],
        np.concatenate(objects),
        tuple(np.flatnonzero(row) for row in right),
        tuple(np.flatnonzero(row[:last]) for row in ignored),
    )


def resampled(images: int, resamples: int, seed: int) -> NDArray[np.int32]:
    """How often each image was drawn in each resample: [images,resamples]."""
    places = np.random.default_rng(seed).integers(images, size=(resamples, images))
    return np.array([np.bincount(row, minlength=images) for row in places], np.int32).T.copy()


def ap_intervals(
    ground_truth: COCO,
    forms: Sequence[Sequence[dict[str, Any]]],
    image_ids: Iterable[int],
    iou_type: str = "bbox",
    resamples: int = 1000,
    seed: int = 0,
) -> list[Interval | None]:
    """Of each form after the first, by its COCO results, the 95 % interval of its AP less the first's.

    In points. Every form is held against the first on the same resamples. None where the data set has no
    object. Raises SameboxError for resamples below 1, and what `score` does.
    """
    if resamples < 1:
        raise SameboxError(f"differences.resamples: {resamples}: give a number from 1 up")
    ids = sorted(image_ids)
    drawn = resampled(len(ids), resamples, seed)
    base, *others = (
        matches(ground_truth, results, ids, iou_type).average_precision(drawn) for results in forms
    )
    return [_interval(other - base) for other in others]


def intervals(
    forms: Sequence[EvaluatedForm], dataset: CocoDataset, resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, Interval]]:
    """The intervals of ΔAP of every measured form against the first, by runtime and kind.

    Of the kinds that have an AP in both: panoptic quality and mean IoU have none. Nothing where the first was
    not run.
    """
    reference, *others = forms
    ids = [record.id for record in dataset.images]
    found: dict[str, dict[str, Interval]] = {}
    for kind in reference.curves:
        scored = [form for form in others if kind in form.curves]
        results = [form.results for form in (reference, *scored)]
        told = ap_intervals(dataset.ground_truth, results, ids, kind, resamples, seed) if scored else []
        for form, interval in zip(scored, told, strict=True):
            if interval is not None:
                found.setdefault(form.metrics["runtime"], {})[kind] = interval
    return found


def _interval(differences: NDArray[np.float64]) -> Interval | None:
    """What holds the middle LEVEL percent; resamples without an object tell nothing."""
    told = differences[~np.isnan(differences)]
    if not len(told):
        return None
    low, high = np.percentile(told, [50 - LEVEL / 2, 50 + LEVEL / 2])
    return float(low), float(high)
