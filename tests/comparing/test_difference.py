import copy

import numpy as np
import pytest
from pycocotools import mask as rle

from samebox.comparing.difference import difference


def result(box, score=0.5, image=1, label=1, **more):
    return {"image_id": image, "category_id": label, "bbox": list(box), "score": score, **more}


def mask(x, y, width, height):
    pixels = np.zeros((100, 100), np.uint8, order="F")
    pixels[y : y + height, x : x + width] = 1
    code = rle.encode(pixels)
    return {"size": code["size"], "counts": code["counts"].decode()}


def counts(**found):
    return {**dict.fromkeys(("matched", "moved", "rescored", "lost", "new"), 0), **found}


def scene(seed=0, images=20, detections=30):
    rng = np.random.default_rng(seed)
    return [
        result([*rng.uniform(0, 300, 2), *rng.uniform(20, 90, 2)], float(rng.uniform(0.05, 1)), image, label)
        for image in range(images)
        for label in rng.integers(1, 4, detections).tolist()
    ]


def test_a_form_does_not_differ_from_itself():
    results = scene()
    found = difference(results, results[::-1])
    assert found.counts == counts(matched=len(results))
    assert found.box == found.score == {"50": 0, "90": 0, "99": 0, "100": 0}
    assert found.highest == {"lost": 0, "new": 0}
    assert found.images == ()


def test_moved_rescored_lost_and_new_detections():
    reference = [
        result([0, 0, 100, 100], 0.9, image=1),
        result([200, 0, 100, 100], 0.8, image=1),
        result([0, 0, 50, 50], 0.7, image=2),
        result([0, 0, 50, 50], 0.6, image=3),
        result([0, 0, 50, 50], 0.4, image=4),
    ]
    other = [
        result([0, 0, 100, 100], 0.9005, image=1),  # below the limit
        result([202, 0, 100, 100], 0.8, image=1),  # IoU 98 / 102
        result([0, 0, 50, 50], 0.65, image=2),
        result([0, 0, 50, 50], 0.6, image=3, label=2),  # another class
        result([40, 0, 50, 50], 0.3, image=4),  # IoU 1 / 9
    ]
    found = difference(reference, other)
    assert found.counts == counts(matched=3, moved=1, rescored=1, lost=2, new=2)
    assert (found.box["50"], found.box["100"]) == (0, 2)
    assert found.score["100"] == pytest.approx(0.05)
    assert found.highest == {"lost": 0.6, "new": 0.6}
    assert [image for image, _ in found.images] == [3, 4, 2, 1] or [i for i, _ in found.images] == [
        3,
        4,
        1,
        2,
    ]
    amounts = dict(found.images)
    assert amounts == pytest.approx({3: 1.2, 4: 0.7, 2: 0.05, 1: 0.0005 + 0.8 * 4 / 102})


def test_the_largest_overlap_is_matched_first_and_each_detection_once():
    """The reference's first box overlaps both boxes of the other form, the second one most."""
    reference = [result([0, 0, 100, 100], 0.9), result([20, 0, 100, 100], 0.8)]
    other = [result([10, 0, 100, 100], 0.7), result([1, 0, 100, 100], 0.6)]
    found = difference(reference, other)
    assert found.counts == counts(matched=2, moved=2, rescored=2)
    assert found.box == pytest.approx({"50": 5.5, "90": 9.1, "99": 9.91, "100": 10})


def test_equal_boxes_are_matched_by_the_nearest_scores():
    box = [10, 10, 40, 40]
    found = difference([result(box, 0.9), result(box, 0.2)], [result(box, 0.2), result(box, 0.9)])
    assert found.counts == counts(matched=2)
    empty = [0, 0, 0, 0]  # the box of a mask without pixels
    assert difference([result(empty)], [result(empty)]).counts == counts(matched=1)


def test_a_mask_may_move_within_an_unchanged_box():
    box, whole = [10, 10, 40, 40], mask(10, 10, 40, 40)
    reference = [result(box, segmentation=whole)]
    found = difference(reference, [result(box, segmentation=mask(10, 10, 40, 38))])
    assert found.counts == counts(matched=1, moved=1)
    assert found.images == ((1, pytest.approx(0.5 * 0.05)),)
    assert difference(reference, copy.deepcopy(reference)).counts == counts(matched=1)
    assert difference(reference, [result(box)]).counts == counts(matched=1)


def test_a_form_without_detections():
    some = [result([0, 0, 10, 10], 0.3, image=7)]
    assert difference([], []).counts == counts()
    lost, new = difference(some, []), difference([], some)
    assert lost.counts == counts(lost=1)
    assert new.counts == counts(new=1)
    assert lost.images == new.images == ((7, 0.3),)
    assert lost.highest == {"lost": 0.3, "new": 0}


def test_the_fields_as_a_dict():
    found = difference([result([0, 0, 10, 10], 0.3)], [])
    assert found.as_dict() == {
        "counts": counts(lost=1),
        "box": {"50": 0, "90": 0, "99": 0, "100": 0},
        "score": {"50": 0, "90": 0, "99": 0, "100": 0},
        "highest": {"lost": 0.3, "new": 0},
        "images": ((1, 0.3),),
    }


def test_keypoints_that_are_far_off_have_moved():
    def points(right):
        return {"keypoints": [10.0 + right, 20.0, 2.0] * 3 + [90.0, 90.0, 2.0] * 2}

    near, far = (
        difference([result([0, 0, 100, 100], **points(0))], [result([0, 0, 100, 100], **points(right))])
        for right in (0.9, 1.1)  # pixels of a box of 100, for most of its points
    )
    assert near.counts == counts(matched=1)
    assert far.counts == counts(matched=1, moved=1)
    assert far.images == ((1, pytest.approx(0.5 * 0.011)),)
