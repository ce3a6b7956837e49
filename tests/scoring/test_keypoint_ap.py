"""Average precision of keypoints, on people made by hand."""

import numpy as np
import pytest

from samebox.coco.dataset import coco_index
from samebox.coco.results import results_from_detections
from samebox.core.errors import SameboxError
from samebox.postprocess.detections import Detections
from samebox.scoring.average_precision import KEYPOINT_STATS, KEYPOINTS, coco_scores

# COCO's OKS constants: how far annotators of a keypoint differ, relative to the square root of the area
SIGMAS = np.array([0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87,
                   0.89, 0.89]) / 10  # fmt: skip
AREA = 6400.0  # of each person: medium in COCO's terms


def person(x, y, seen=KEYPOINTS):
    """Keypoints [17,3] in the 80x80 pixels from x, y on; the first `seen` are labelled."""
    points = np.zeros((KEYPOINTS, 3))
    for i in range(seen):
        points[i] = x + 5 * i, y + 7 * i % 80, 2
    return points


def truth(*people):
    """One image with people, each (keypoints, area)."""
    return coco_index(
        {
            "images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}],
            "categories": [{"id": 1, "name": "person"}],
            "annotations": [
                {
                    "id": index, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 80, 80],
                    "area": area, "keypoints": points.flatten().tolist(),
                    "num_keypoints": int((points[:, 2] > 0).sum()),
                }
                for index, (points, area) in enumerate(people, 1)
            ],
        }
    )  # fmt: skip


def result(points, confidence=0.9, shift=0.0):
    moved = points + np.array([shift, 0, 0])
    return {"image_id": 1, "category_id": 1, "keypoints": moved.flatten().tolist(), "score": confidence}


def scores(ground_truth, *results):
    return coco_scores(ground_truth, results, [1], "keypoints")


def test_the_annotations_as_results_score_100():
    people = person(10, 20), person(300, 200)
    found = scores(truth(*((one, AREA) for one in people)), *map(result, people))
    assert tuple(found.stats) == KEYPOINT_STATS
    assert {name: value for name, value in found.stats.items() if value is not None} == pytest.approx(
        dict.fromkeys(("AP", "AP50", "AP75", "APm", "AR", "AR50", "AR75", "ARm"), 100)
    )
    assert found.per_class == {"person": pytest.approx(100)}
    assert found.precision["precision_75"] == pytest.approx([1] * 101)


@pytest.mark.parametrize("shift", [2.0, 4.0, 8.0, 16.0, 40.0])
def test_the_ap_of_a_shift_follows_from_its_similarity(shift):
    similarity = np.exp(-(shift**2) / (2 * AREA * (2 * SIGMAS) ** 2)).mean()
    thresholds = np.arange(0.5, 0.96, 0.05)
    found = scores(truth((person(10, 20), AREA)), result(person(10, 20), shift=shift))
    assert found.stats["AP"] == pytest.approx(100 * (similarity >= thresholds).mean())
    assert found.stats["AP50"] == pytest.approx(100 if similarity >= 0.5 else 0)


def test_the_shifts_above_cross_several_thresholds():
    found = [
        scores(truth((person(10, 20), AREA)), result(person(10, 20), shift=shift)).stats["AP"]
        for shift in (2, 4, 8, 16, 40)
    ]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) >= 4


def test_keypoints_that_are_not_labelled_do_not_count():
    outlying = person(10, 20)
    outlying[10:, :2] = 600, 400
    assert scores(truth((person(10, 20, seen=10), AREA)), result(outlying)).stats["AP"] == pytest.approx(100)


def test_a_person_without_labelled_keypoints_does_not_count():
    people = truth((person(10, 20), AREA), (person(300, 200, seen=0), AREA))
    assert scores(people, result(person(10, 20))).stats["AP"] == pytest.approx(100)


def test_a_missed_person_and_a_false_one():
    people = person(10, 20), person(300, 200)
    missed = scores(truth(*((one, AREA) for one in people)), result(people[0]))
    assert missed.stats["AP"] == pytest.approx(100 * 51 / 101)  # recall reaches one half
    wrong = scores(truth((people[0], AREA)), result(people[1], 0.95), result(people[0], 0.9))
    assert wrong.stats["AP"] == pytest.approx(50)


def test_no_results_score_0():
    assert scores(truth((person(10, 20), AREA))).stats["AP"] == 0


def test_the_boxes_of_the_results_do_not_matter():
    """Nor does their area, by which pycocotools would class them as medium or large."""
    found = scores(truth((person(10, 20), AREA)), {**result(person(10, 20)), "bbox": [0, 0, 600, 400]})
    assert found.stats["APm"] == pytest.approx(100)


def test_keypoints_at_the_centres_of_the_labelled_pixels_score_100():
    points = person(10, 20)
    centres = (points + np.array([0.5, 0.5, 0]))[None].astype(np.float32)
    box = np.array([[0, 0, 80, 80]], np.float32)
    one = Detections(box, np.array([0.9], np.float32), np.array([0]), ("person",), keypoints=centres)
    tiny_area = 4.0  # half a pixel would reduce the AP
    found = scores(truth((points, tiny_area)), *results_from_detections(1, one, [1]))
    assert found.precision["precision_75"] == pytest.approx([1] * 101)


@pytest.mark.parametrize("points", [person(10, 20)[:5], np.zeros((18, 3))])
def test_another_number_of_keypoints_is_an_error(points):
    with pytest.raises(SameboxError, match="does not have COCO's 17 keypoints; leave keypoints out"):
        scores(truth((person(10, 20), AREA)), result(points))


def test_boxes_cannot_be_scored_as_keypoints():
    with pytest.raises(SameboxError, match="no `keypoints`"):
        scores(
            truth((person(10, 20), AREA)),
            {"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1.0},
        )
