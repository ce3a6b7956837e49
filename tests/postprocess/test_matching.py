import numpy as np
import pytest
from pycocotools import mask as rle

from samebox.postprocess.matching import LabelledBoxes, box_iou, match_one_to_one


def labelled(*rows):
    """Rows x1 y1 x2 y2 score label."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return LabelledBoxes(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def pairs(reference, other):
    rows, columns, _ = match_one_to_one(reference, other)
    return set(zip(rows.tolist(), columns.tolist(), strict=True))


def test_box_iou_is_intersection_over_union():
    a = np.array([[0, 0, 10, 10], [5, 5, 5, 9]], np.float32)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 10, 20, 20], [5, 5, 5, 9]], np.float32)
    np.testing.assert_allclose(box_iou(a, b), [[1, 1 / 3, 0, 0], [0, 0, 0, 0]], rtol=1e-6)


def test_box_iou_equals_that_of_pycocotools():
    rng = np.random.default_rng(0)
    # float32 coordinates, as networks give them: then width and height are exact in float64
    a, b = (rng.uniform(0, 300, (count, 4)).astype(np.float32).astype(np.float64) for count in (40, 30))
    for boxes in (a, b):
        boxes.sort(axis=1)
    a_xywh, b_xywh = (np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]) for boxes in (a, b))
    np.testing.assert_array_equal(box_iou(a, b), rle.iou(a_xywh, b_xywh, [0] * len(b)))


@pytest.mark.parametrize(("count", "others"), [(0, 3), (3, 0), (0, 0)])
def test_no_boxes_give_an_empty_iou(count, others):
    assert box_iou(np.zeros((count, 4)), np.zeros((others, 4))).shape == (count, others)
    empty = [LabelledBoxes(np.zeros((n, 4)), np.zeros(n), np.zeros(n, int)) for n in (count, others)]
    empty[0].boxes[:] = 5  # other places than those of the others
    assert pairs(*empty) == set()


def test_pairs_equal_a_greedy_choice_one_by_one():
    rng = np.random.default_rng(1)
    corners = [np.hstack([at, at + 60]) for at in (rng.uniform(0, 30, (n, 2)) for n in (40, 35))]
    overlap, expected = box_iou(*corners), set()
    while overlap.max() >= 0.5:
        row, column = np.unravel_index(overlap.argmax(), overlap.shape)
        expected.add((int(row), int(column)))
        overlap[row], overlap[:, column] = 0, 0
    sides = (LabelledBoxes(boxes, rng.random(len(boxes)), np.zeros(len(boxes), int)) for boxes in corners)
    assert pairs(*sides) == expected


def test_detections_of_different_classes_are_not_matched():
    assert pairs(labelled((0, 0, 9, 9, 0.5, 0)), labelled((0, 0, 9, 9, 0.5, 1))) == set()


def test_equal_boxes_are_matched_by_the_nearest_scores():
    box = (10, 10, 50, 50)
    reference, other = labelled((*box, 0.9, 0), (*box, 0.2, 0)), labelled((*box, 0.2, 0), (*box, 0.9, 0))
    assert pairs(reference, other) == {(0, 1), (1, 0)}


def test_equal_boxes_without_area_are_matched():
    rows, _, iou = match_one_to_one(labelled((3, 3, 3, 3, 0.5, 0)), labelled((3, 3, 3, 3, 0.4, 0)))
    assert (rows.tolist(), iou.tolist()) == ([0], [1])
