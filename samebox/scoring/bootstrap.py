"""Intervals of ΔAP by a paired bootstrap over the images of a data set (Efron, 1979).

A resample draws as many images as the data set has, with replacement, and the same images for every form.
Which detection matches which object does not depend on the resample, so pycocotools finds the matches once;
in a resample each image only counts as often as it was drawn.
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
from samebox.scoring.average_precision import coco_evaluation

LEVEL = 95  # percent of the resamples that lie in an interval

_RECALLS = Params().recThrs
_LARGEST = 1 << 22  # numbers in an array of resamples times objects of a class

Interval = tuple[float, float]


@dataclass(frozen=True)
class ClassMatches:
    """The detections of one class by descending score, down to the last true positive at any IoU.

    `images` [D]: the index of each detection's image; `objects` [G]: that of each object that is not a crowd.
    `true_positives` and `ignored` hold, for each IoU threshold, the indices of the detections that match an
    object, and of those that match a crowd or are otherwise ignored by pycocotools.
    """

    images: NDArray[np.intp]
    objects: NDArray[np.intp]
    true_positives: tuple[NDArray[np.intp], ...]
    ignored: tuple[NDArray[np.intp], ...]

    def average_precision(self, drawn: NDArray[np.int32]) -> NDArray[np.float64]:
        """COCO's AP [N], 0 to 1, with each image counted `drawn` [images,N] times; NaN without objects."""
        objects = drawn[self.objects].sum(0)
        places = np.unique(np.concatenate(self.true_positives))
        bounds = pairwise([0, *(places + 1).tolist()])
        between = [drawn[self.images[low:high]].sum(0, dtype=np.int32) for low, high in bounds]
        seen = _accumulated(np.add, np.array(between, np.int32).reshape(-1, len(objects)))
        total = np.zeros(len(objects))
        for true_positives, ignored in zip(self.true_positives, self.ignored, strict=True):
            hits = _accumulated(np.add, drawn[self.images[true_positives]])
            counted = seen[places.searchsorted(true_positives)]
            if len(ignored):
                crowds = _accumulated(np.add, np.pad(drawn[self.images[ignored]], ((1, 0), (0, 0))))
                counted -= crowds[ignored.searchsorted(true_positives)]
            precision = hits / np.maximum(counted, 1)
            highest = _accumulated(np.maximum, precision[::-1])[::-1]
            steps = np.diff(_reached(hits / np.maximum(objects, 1)), axis=0, prepend=0)
            total += (highest * steps).sum(0)
        return np.where(objects > 0, total / (len(self.true_positives) * len(_RECALLS)), np.nan)


def _accumulated(operation: np.ufunc, rows: NDArray[Any]) -> NDArray[Any]:
    """`operation.accumulate(rows)` in place, row by row: many times as fast if rows are long."""
    for before, row in pairwise(rows):
        operation(before, row, out=row)
    return rows


def _reached(recall: NDArray[np.float64]) -> NDArray[np.int32]:
    """How many of COCO's recalls 0, 0.01, … 1 are at most each recall; `_RECALLS.searchsorted`, but faster.

    A recall that equals one of them except for rounding is compared with pycocotools' own numbers.
    """
    index = (recall * (len(_RECALLS) - 1) + 1e-9).astype(np.int32)
    return index + (_RECALLS.take(index) <= recall)


@dataclass(frozen=True)
class Matches:
    """The matches of one form's results, for each class that has an object or a detection."""

    classes: tuple[ClassMatches, ...]

    def average_precision(self, drawn: NDArray[np.int32]) -> NDArray[np.float64]:
        """COCO's AP [N] in points with each image counted `drawn` [images,N] times; NaN without objects."""
        resamples = drawn.shape[1]
        total, classes = np.zeros(resamples), np.zeros(resamples)
        for matches in self.classes:
            parts = np.array_split(drawn, 1 + resamples * len(matches.objects) // _LARGEST, axis=1)
            precision = np.concatenate([matches.average_precision(part) for part in parts])
            total += np.nan_to_num(precision)
            classes += ~np.isnan(precision)
        return 100 * np.divide(total, classes, out=np.full(resamples, np.nan), where=classes > 0)


def coco_matches(
    ground_truth: COCO, results: Sequence[dict[str, Any]], image_ids: Iterable[int], iou_type: str = "bbox"
) -> Matches:
    """The matches of COCO results on the given images, by `bbox`, `segm` or `keypoints`.

    Raises the errors of `coco_scores`.
    """
    evaluation = coco_evaluation(ground_truth, results, image_ids, iou_type)
    params = evaluation.params
    params.areaRng, params.maxDets = params.areaRng[:1], params.maxDets[-1:]  # AP needs no others
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    count, entries = len(params.imgIds), evaluation.evalImgs
    by_class = (entries[start : start + count] for start in range(0, len(entries), count))
    return Matches(tuple(_class_matches(of_class) for of_class in by_class if any(of_class)))


def _class_matches(entries: Sequence[dict[str, Any] | None]) -> ClassMatches:
    """The matches of one class, from pycocotools' entry for each image."""
    present = [(place, entry) for place, entry in enumerate(entries) if entry is not None]
    detections = [np.full(len(entry["dtScores"]), place) for place, entry in present]
    objects = [np.full(np.count_nonzero(entry["gtIgnore"] == 0), place) for place, entry in present]
    scores = np.concatenate([entry["dtScores"] for _, entry in present])
    order = np.argsort(-scores, kind="mergesort")  # equal scores in pycocotools' order
    matched, ignored = (
        np.concatenate([entry[key] for _, entry in present], axis=1)[:, order].astype(bool)
        for key in ("dtMatches", "dtIgnore")
    )
    true_positive = matched & ~ignored
    last = 1 + max(np.flatnonzero(true_positive.any(0)), default=-1)
    return ClassMatches(
        np.concatenate(detections)[order][:last],
        np.concatenate(objects),
        tuple(np.flatnonzero(row) for row in true_positive),
        tuple(np.flatnonzero(row[:last]) for row in ignored),
    )


def draw_counts(images: int, resamples: int, seed: int) -> NDArray[np.int32]:
    """How often each image is drawn in each resample: [images,resamples]."""
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
    """For each form after the first, the 95 % interval of its AP minus the AP of the first, in points.

    `forms` are the COCO results of each form. All forms are scored on the same resamples. An interval is None
    if the data set has no object. Raises SameboxError for resamples below 1, and the errors of `coco_scores`.
    """
    if resamples < 1:
        raise SameboxError(f"differences.resamples: {resamples}: give a number from 1 up")
    ids = sorted(image_ids)
    drawn = draw_counts(len(ids), resamples, seed)
    reference, *others = (
        coco_matches(ground_truth, results, ids, iou_type).average_precision(drawn) for results in forms
    )
    return [_interval(other - reference) for other in others]


def intervals(
    forms: Sequence[EvaluatedForm], dataset: CocoDataset, resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, Interval]]:
    """The intervals of ΔAP of each measured form against the first, by runtime and kind.

    Only kinds with an AP in both forms have one: panoptic quality and mean IoU do not. Empty if the first
    form was not run.
    """
    reference, *others = forms
    ids = [record.id for record in dataset.images]
    by_runtime: dict[str, dict[str, Interval]] = {}
    for kind in reference.curves:
        with_ap = [form for form in others if kind in form.curves]
        if not with_ap:
            continue
        results = [form.results for form in (reference, *with_ap)]
        of_kind = ap_intervals(dataset.ground_truth, results, ids, kind, resamples, seed)
        for form, interval in zip(with_ap, of_kind, strict=True):
            if interval is not None:
                by_runtime.setdefault(form.metrics["runtime"], {})[kind] = interval
    return by_runtime


def _interval(differences: NDArray[np.float64]) -> Interval | None:
    """The range of the middle LEVEL percent; resamples without an object (NaN) do not count."""
    valid = differences[~np.isnan(differences)]
    if not len(valid):
        return None
    low, high = np.percentile(valid, [50 - LEVEL / 2, 50 + LEVEL / 2])
    return float(low), float(high)
