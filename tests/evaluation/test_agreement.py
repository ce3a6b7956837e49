from dataclasses import replace

import numpy as np
import pytest

from samebox.evaluation.agreement import agreement
from samebox.postprocess.detections import Detections
from samebox.postprocess.panoptic import Panoptic, Segment


def detections(*rows, masks=None):
    """Detections from rows x1 y1 x2 y2 score label."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64), ("a", "b"), masks)


def filled(*boxes):
    """Masks [N,20,50] that fill boxes x1 y1 x2 y2 in whole pixels."""
    masks = np.zeros((len(boxes), 20, 50), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


LEFT, RIGHT = (0, 0, 10, 10, 0.9, 0), (20, 0, 40, 10, 0.5, 1)


def test_detections_agree_with_themselves_in_any_order():
    compared = agreement(detections(LEFT, RIGHT), detections(RIGHT, LEFT))
    assert (compared.reference, compared.other) == (2, 2)
    assert compared.box.tolist() == compared.score.tolist() == [0, 0]
    assert compared.share(0, 0) == 1


def test_the_difference_of_a_pair_is_its_largest_coordinate_and_its_score():
    moved = (0.25, 0, 10, 9.5, 0.8, 0)
    compared = agreement(detections(LEFT), detections(moved))
    assert compared.box.tolist() == [0.5]
    assert compared.score == pytest.approx([0.1], abs=1e-6)
    assert compared.share(box=0.5, score=0.11) == 1
    assert compared.share(box=0.4, score=0.11) == 0
    assert compared.share(box=0.5, score=0.09) == 0


def test_each_detection_is_matched_once():
    compared = agreement(detections(LEFT), detections(LEFT, LEFT))
    assert len(compared.box) == 1
    assert compared.share(0.1, 0.1) == 0.5


def test_the_larger_overlap_is_matched_first():
    near, nearer = (0, 0, 10, 9, 0.7, 0), (0, 0, 10, 9.9, 0.6, 0)
    compared = agreement(detections(LEFT), detections(near, nearer))
    assert compared.score == pytest.approx([0.3], abs=1e-6)


def test_detections_of_another_class_or_place_are_not_matched():
    compared = agreement(detections(LEFT), detections((*LEFT[:5], 1), (8, 8, 18, 18, 0.9, 0)))
    assert len(compared.box) == 0
    assert compared.share(1000, 1) == 0
    assert str(compared) == "0 of 1 detections matched, 2 in the other form; largest difference none"


@pytest.mark.parametrize(("ours", "theirs", "share"), [((), (), 1), ((LEFT,), (), 0), ((), (LEFT,), 0)])
def test_forms_without_detections(ours, theirs, share):
    assert agreement(detections(*ours), detections(*theirs)).share(0.1, 0.1) == share


def test_the_figures_in_one_line():
    line = str(agreement(detections(LEFT, RIGHT), detections((0, 0, 10.5, 10, 0.875, 0))))
    assert line == (
        "1 of 2 detections matched, 1 in the other form; largest difference 0.5 px and 0.025 in score"
    )


def test_masks_of_a_pair_are_compared_by_their_iou():
    ours = detections(LEFT, RIGHT, masks=filled((0, 0, 10, 10), (20, 0, 40, 10)))
    theirs = detections(RIGHT, LEFT, masks=filled((20, 0, 40, 10), (0, 0, 10, 8)))
    compared = agreement(ours, theirs)
    assert sorted(compared.mask) == [0.8, 1]
    assert compared.share(0, 0) == compared.share(0, 0, mask=0.8) == 1
    assert compared.share(0, 0, mask=0.81) == 0.5
    assert str(compared).endswith("0 px and 0 in score; least mask IoU 0.8")


def test_masks_are_not_compared_if_one_form_has_none():
    masked, bare = detections(LEFT, masks=filled((0, 0, 10, 10))), detections(LEFT)
    compared = agreement(masked, bare)
    assert compared.mask is None
    assert compared.share(0, 0, mask=1) == 1
    assert "IoU" not in str(compared)


def test_masks_of_forms_without_a_pair():
    compared = agreement(detections(masks=filled()), detections(LEFT, masks=filled((0, 0, 10, 10))))
    assert compared.mask.shape == (0,)
    assert compared.share(0, 0, mask=0.99) == 0
    assert "IoU" not in str(compared)


def test_keypoints_of_a_pair_are_compared_by_their_median_distance():
    points = np.random.default_rng(0).uniform(0, 50, (2, 5, 3)).astype(np.float32)
    ours = replace(detections(LEFT, RIGHT), keypoints=points)
    moved = points[::-1].copy()
    moved[0, :, 0] += 0.5
    moved[1, 0] += 1000  # as if a second peak of the same height was taken
    theirs = replace(detections(RIGHT, LEFT), keypoints=moved)
    compared = agreement(ours, theirs)
    assert sorted(compared.keypoint) == pytest.approx([0, 0.5])
    assert compared.share(0, 0) == compared.share(0, 0, keypoint=0.51) == 1
    assert compared.share(0, 0, keypoint=0.49) == 0.5
    assert str(compared).endswith("0 px and 0 in score; largest median distance of keypoints 0.5 px")
    assert agreement(ours, detections(LEFT, RIGHT)).keypoint is None


def segmented(ids, *names):
    segments = tuple(Segment(index, name, False) for index, name in enumerate(names, start=1))
    return replace(detections(LEFT), panoptic=Panoptic(np.array(ids, np.int32), segments, np.array(ids), ()))


def test_segments_are_compared_by_the_class_of_each_pixel():
    ours = segmented([[0, 1, 1, 2], [0, 1, 3, 2]], "sky", "disc", "disc")
    theirs = segmented([[0, 2, 2, 1], [2, 2, 0, 1]], "disc", "sky")  # with other ids
    compared = agreement(ours, theirs)
    assert compared.pixels == 6 / 8
    assert str(compared).endswith("; 75.00% of the pixels have the same class")
    assert agreement(ours, ours).pixels == 1
    assert agreement(ours, detections(LEFT)).pixels is None
