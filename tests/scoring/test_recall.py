import contextlib
import io

import crowded
import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from samebox.scoring.overlaps import overlaps
from samebox.scoring.recall import LIMITS, recall_scores

NAMES = ("AR100", "AR300", "AR1000", "ARs", "ARm", "ARl")


def scores(ground_truth, results):
    return recall_scores(overlaps(ground_truth, results, crowded.IDS)).stats


def pycocotools(ground_truth, results):
    """With the parameters of MMDetection's metric `proposal`."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(ground_truth, ground_truth.loadRes(results), "bbox")
        evaluation.params.useCats, evaluation.params.maxDets = 0, list(LIMITS)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(NAMES, (100 * evaluation.stats[6:]).tolist(), strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_the_recall_of_random_boxes_equals_pycocotools(seed):
    rng = np.random.default_rng(seed)
    ground_truth = crowded.random_truth(rng)
    results = crowded.detected(ground_truth, rng)
    expected = pycocotools(ground_truth, results)
    assert all(0 < value < 100 for value in expected.values())
    assert scores(ground_truth, results) == pytest.approx(expected, abs=1e-9)


def test_boxes_beyond_a_limit_do_not_count():
    rng = np.random.default_rng(3)
    few = [one for one in crowded.random_truth(rng).dataset["annotations"] if one["image_id"] < 6]
    ground_truth = crowded.ground_truth(few)
    results = crowded.detected(ground_truth, rng, most=700)
    expected = pycocotools(ground_truth, results)
    assert expected["AR100"] < expected["AR300"] < expected["AR1000"]
    assert scores(ground_truth, results) == pytest.approx(expected, abs=1e-9)


def test_the_class_does_not_matter():
    ground_truth = crowded.random_truth(np.random.default_rng(0))
    whole = [
        {"image_id": one["image_id"], "category_id": 3, "bbox": one["bbox"], "score": 1.0}
        for one in ground_truth.dataset["annotations"]
    ]
    assert scores(ground_truth, whole) == dict.fromkeys(NAMES, 100.0)


def test_without_objects_there_is_no_recall():
    assert scores(crowded.ground_truth([]), []) == dict.fromkeys(NAMES)
