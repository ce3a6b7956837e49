from fractions import Fraction

import crowded
import numpy as np
import pytest

from samebox.scoring.overlaps import overlaps
from samebox.scoring.voc import average_precision, voc_scores

CLASSES = {number: f"class {number}" for number in range(1, crowded.CLASSES + 1)}


def scores(ground_truth, results):
    return voc_scores(overlaps(ground_truth, results, crowded.IDS), CLASSES)


def entry(number, image, box, crowd=0):
    return {
        "id": number, "image_id": image, "category_id": 1, "bbox": box, "area": 100, "iscrowd": crowd
    }  # fmt: skip


def result(image, box, score):
    return {"image_id": image, "category_id": 1, "bbox": box, "score": score}


def test_a_case_worked_out_by_hand():
    """True, false (a second box of the object), true, ignored (a crowd's), false (IoU 1/3), true; one is
    missed.

    The precisions at the true positives are 1, 2/3 and 3/5, the recalls 1/4, 2/4 and 3/4. The area is a
    quarter of the sum of the precisions. The precision at recalls 0 to 0.2 is 1, at 0.3 to 0.5 it is 2/3, at
    0.6 and 0.7 it is 3/5, and beyond it is 0.
    """
    objects = [entry(1, 1, [0, 0, 10, 10]), entry(2, 2, [0, 0, 10, 10]), entry(3, 2, [50, 50, 10, 10])]
    objects += [entry(4, 3, [0, 0, 10, 10]), entry(5, 3, [100, 100, 40, 40], crowd=1)]
    results = [
        result(1, [0, 0, 10, 10], 0.9),
        result(1, [0, 0, 10, 8], 0.8),
        result(2, [0, 0, 10, 5], 0.7),
        result(3, [100, 100, 40, 30], 0.65),
        result(3, [5, 0, 10, 10], 0.6),
        result(2, [50, 50, 10, 10], 0.5),
    ]
    found = scores(crowded.ground_truth(objects), results)
    area, points = (1 + 2 / 3 + 3 / 5) / 4, (3 * 1 + 3 * 2 / 3 + 2 * 3 / 5) / 11
    assert found["voc"].per_class == {"class 1": pytest.approx(100 * area), "class 2": None, "class 3": None}
    assert found["voc"].stats == {"mAP": pytest.approx(100 * area)}
    assert found["voc07"].stats == {"mAP": pytest.approx(100 * points)}


def test_a_box_matches_only_the_object_of_its_largest_iou():
    """The second box overlaps both objects. The one that it overlaps most is already matched."""
    objects = [entry(1, 1, [0, 0, 10, 10]), entry(2, 1, [3, 0, 10, 10])]
    found = scores(
        crowded.ground_truth(objects), [result(1, [0, 0, 10, 10], 0.9), result(1, [1, 0, 10, 10], 0.8)]
    )
    assert found["voc"].stats["mAP"] == pytest.approx(50)


def test_a_recall_of_three_tenths_is_reached():
    """In floating point, 3 · 0.1 is more than 3 / 10."""
    _, points = average_precision(np.ones(3, bool), 10)
    assert points == pytest.approx(4 / 11)


def slow(ground_truth, results, category, points):
    """The definition, box by box, in fractions."""
    annotations = [one for one in ground_truth.dataset["annotations"] if one["category_id"] == category]
    objects = sum(not one["iscrowd"] for one in annotations)
    own = [one for one in results if one["category_id"] == category]
    outcomes = list(judged(annotations, own))
    if not objects:
        return None
    hits = [sum(outcomes[:count]) for count in range(1, len(outcomes) + 1)]
    curve = [(Fraction(hit, objects), Fraction(hit, count)) for count, hit in enumerate(hits, 1)]
    steps = range(11) if points else range(1, objects + 1)
    wanted = [Fraction(step, steps[-1]) for step in steps]
    highest = [max((p for r, p in curve if r >= at), default=Fraction(0)) for at in wanted]
    return float(100 * sum(highest) / len(wanted))


def judged(annotations, results):
    """Whether each box is a true positive, by descending score, without the boxes of crowds."""
    taken = set()
    for one in sorted(results, key=place):
        near = [other for other in annotations if other["image_id"] == one["image_id"]]
        rated = [(overlap(one["bbox"], other["bbox"]), other["id"], other["iscrowd"]) for other in near]
        iou, number, crowd = max(rated, default=(0, 0, 0))
        if iou < 0.5 or not crowd:
            yield bool(iou >= 0.5 and number not in taken)
        if iou >= 0.5:
            taken.add(number)


def place(result):
    """By score, then by image."""
    return -result["score"], result["image_id"]


def overlap(box, other):
    width, height = (
        min(box[i] + box[i + 2], other[i] + other[i + 2]) - max(box[i], other[i]) for i in (0, 1)
    )
    common = max(width, 0) * max(height, 0)
    return common / (box[2] * box[3] + other[2] * other[3] - common)


@pytest.mark.parametrize("seed", range(4))
def test_the_map_of_random_boxes_equals_the_definition(seed):
    rng = np.random.default_rng(seed)
    ground_truth = crowded.random_truth(rng)
    results = crowded.detected(ground_truth, rng)
    found = scores(ground_truth, results)
    for kind, points in (("voc", False), ("voc07", True)):
        expected = {name: slow(ground_truth, results, number, points) for number, name in CLASSES.items()}
        assert expected["class 3"] is None
        assert 20 < expected["class 1"] < 80
        assert found[kind].per_class == pytest.approx(expected, abs=1e-9)
        mean = (expected["class 1"] + expected["class 2"]) / 2
        assert found[kind].stats["mAP"] == pytest.approx(mean, abs=1e-9)


def test_without_objects_there_is_no_score():
    found = scores(crowded.ground_truth([]), [result(1, [0, 0, 1, 1], 0.5)])
    assert found["voc"].stats == found["voc07"].stats == {"mAP": None}


def test_no_detections_score_zero():
    assert scores(crowded.ground_truth([entry(1, 1, [0, 0, 10, 10])]), [])["voc"].stats["mAP"] == 0
