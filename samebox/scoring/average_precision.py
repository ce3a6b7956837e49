"""COCO's average precision and recall, computed by pycocotools."""

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params

from samebox.coco.dataset import coco_index
from samebox.coco.results import GEOMETRY
from samebox.core.errors import SameboxError

STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")

KEYPOINT_STATS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
# Keypoints of a person: COCO has one OKS constant for each, which states how much annotators differ about it
KEYPOINTS = len(Params("keypoints").kpt_oks_sigmas)


@dataclass(frozen=True)
class Scores:
    """How well results match the ground truth.

    `stats`: COCO's twelve numbers (keypoints: ten), and `per_class` the AP of each class, in points from 0 to
    100; None if the data set has no such objects. `precision`: curves averaged over the classes, from 0 to 1.
    These are `recall` [101] and, at each recall, `precision_50`, `precision_75` at these IoU, and
    `precision_mean` over IoU 0.50 to 0.95. For keypoints, object keypoint similarity (OKS) replaces IoU.
    """

    stats: dict[str, float | None]
    per_class: dict[str, float | None]
    precision: dict[str, list[float]]


def coco_scores(
    ground_truth: COCO, results: Sequence[dict[str, Any]], image_ids: Iterable[int], iou_type: str = "bbox"
) -> Scores:
    """The scores of COCO results on the given images, by boxes (`bbox`), masks (`segm`) or `keypoints`.

    Keypoints are a person's 17, with at most 20 detections per image; boxes and masks have at most 100.
    Raises SameboxError if the ground truth lacks one of the images, or if a result lacks the geometry.
    """
    evaluation = coco_evaluation(ground_truth, results, image_ids, iou_type)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # [IoU, recall, class]: objects of all areas, at most 100 detections per image (keypoints: 20)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    names = [category["name"] for category in ground_truth.loadCats(evaluation.params.catIds)]
    stats = KEYPOINT_STATS if iou_type == "keypoints" else STATS
    return Scores(
        stats={name: _points(value) for name, value in zip(stats, evaluation.stats, strict=True)},
        per_class={name: _points(_mean(precision[:, :, index])) for index, name in enumerate(names)},
        precision=_curves(precision, evaluation.params),
    )


def coco_evaluation(
    ground_truth: COCO, results: Sequence[dict[str, Any]], image_ids: Iterable[int], iou_type: str
) -> COCOeval:
    """pycocotools' evaluation of results on the given images, not yet run.

    Raises the errors of `coco_scores`.
    """
    evaluation = COCOeval(ground_truth, _loaded_results(ground_truth, results, iou_type), iou_type)
    evaluation.params.imgIds = sorted(image_ids)
    return evaluation


def _loaded_results(ground_truth: COCO, results: Sequence[dict[str, Any]], iou_type: str) -> COCO:
    """The results as pycocotools loads them, each with only the geometry that is scored.

    If a result had both geometries, pycocotools would class masks as small, medium or large by the area of
    their box.
    """
    kept = ("image_id", "category_id", "score", GEOMETRY[iou_type])
    if any(GEOMETRY[iou_type] not in result for result in results):
        raise SameboxError(f"a result has no `{GEOMETRY[iou_type]}`; leave {iou_type} out of the scores")
    if iou_type == "keypoints" and any(len(result["keypoints"]) != 3 * KEYPOINTS for result in results):
        raise SameboxError(f"a result does not have COCO's {KEYPOINTS} keypoints; leave keypoints out")
    if unknown := {result["image_id"] for result in results} - set(ground_truth.imgs):
        raise SameboxError(f"results for image {min(unknown)}, which the annotations lack; evaluate again")
    if not results:  # loadRes infers the kind of geometry from the first result
        return coco_index({**ground_truth.dataset, "annotations": []})
    with contextlib.redirect_stdout(io.StringIO()):
        return ground_truth.loadRes([{key: result[key] for key in kept} for result in results])


def _curves(precision: np.ndarray, params: Any) -> dict[str, list[float]]:
    """Precision [IoU, recall, class] averaged over the classes that have objects."""
    present = precision[:, :, (precision > -1).all((0, 1))]
    curves = present.mean(2) if present.size else np.zeros(precision.shape[:2])
    at = {threshold: curves[np.argmin(abs(params.iouThrs - threshold))] for threshold in (0.5, 0.75)}
    return {
        "recall": params.recThrs.tolist(),
        "precision_50": at[0.5].tolist(),
        "precision_75": at[0.75].tolist(),
        "precision_mean": curves.mean(0).tolist(),
    }


def _mean(precision: np.ndarray) -> float:
    """The mean, or COCO's -1 if there is no object."""
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else -1.0


def _points(value: float) -> float | None:
    return None if value == -1 else 100.0 * float(value)
