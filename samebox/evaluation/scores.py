"""The scores of a run over a data set, by kind of prediction. A new metric is added in `run_scores`."""

from collections.abc import Collection, Iterator
from typing import Any

from samebox.coco.dataset import CocoDataset
from samebox.evaluation.run import DataSetRun
from samebox.scoring.average_precision import KEYPOINTS, Scores, coco_scores
from samebox.scoring.overlaps import overlaps
from samebox.scoring.panoptic_quality import panoptic_scores
from samebox.scoring.recall import recall_scores
from samebox.scoring.voc import voc_scores

# Notes under the table on masks, keypoints and segments that have no ground truth
NO_MASK_TRUTH = "masks are not scored: annotations of the data set have no `segmentation`"
NO_KEYPOINT_TRUTH = (
    f"keypoints are not scored: this needs {KEYPOINTS} per object, from the detector and in `keypoints` and "
    "`num_keypoints` of the data set's annotations"
)
NO_SEGMENT_TRUTH = "segments are not scored: the data set has no panoptic annotations"


def run_scores(run: DataSetRun, dataset: CocoDataset) -> dict[str, Scores]:
    """The scores by kind, on all images of the data set; an image left out counts as without detections.

    `bbox` is always scored; `segm` if the detector has masks and every object of the data set has one;
    `keypoints` if both have a person's 17; `panoptic` and `semantics` (each pixel's class beneath the
    objects) if both have segments. Boxes are also scored as in PASCAL VOC, `voc` and `voc07`, and by their
    class-agnostic `recall`.
    """
    kinds = ["bbox"]
    objects = dataset.ground_truth.anns.values()
    if run.has_masks and all(entry.get("segmentation") for entry in objects):
        kinds.append("segm")
    if run.keypoints == KEYPOINTS and all(_has_keypoints(entry) for entry in objects):
        kinds.append("keypoints")
    ids = [record.id for record in dataset.images]
    scores = {kind: coco_scores(dataset.ground_truth, run.results, ids, kind) for kind in kinds}
    if run.panoptic is not None and dataset.panoptic is not None:
        scores |= panoptic_scores(dataset.panoptic, run.panoptic.results, ids)
    boxes = list(overlaps(dataset.ground_truth, run.results, ids))
    names = {number: category["name"] for number, category in dataset.ground_truth.cats.items()}
    return scores | voc_scores(boxes, names) | {"recall": recall_scores(boxes)}


def unscored_notes(run: DataSetRun, kinds: Collection[str]) -> Iterator[str]:
    """A note for each kind that the detector predicts and that is not among the scored `kinds`."""
    if run.has_masks and "segm" not in kinds:
        yield NO_MASK_TRUTH
    if run.keypoints and "keypoints" not in kinds:
        yield NO_KEYPOINT_TRUTH
    if run.has_segments and "panoptic" not in kinds:
        yield NO_SEGMENT_TRUTH


def _has_keypoints(entry: dict[str, Any]) -> bool:
    return len(entry.get("keypoints", ())) == 3 * KEYPOINTS and "num_keypoints" in entry
