import math

import pytest
import torch

from samebox.networks.blocks.boxes import (
    areas,
    as_continuous,
    clip,
    decode_deltas,
    decode_distances,
    decode_tblr,
    has_area,
    intersections,
    iou_above,
)

ANCHOR = [0.0, 0.0, 10.0, 20.0]


@pytest.mark.parametrize(
    ("delta", "box"),
    [
        pytest.param([0, 0, 0, 0], ANCHOR, id="zero deltas"),
        pytest.param([0.1, 0.2, 0, 0], [1, 4, 11, 24], id="centre, in units of the anchor's size"),
        pytest.param([0, 0, math.log(2), math.log(0.5)], [-5, 5, 15, 15], id="size"),
        pytest.param([0, 0, 100, 0], [5 - 312.5, 0, 5 + 312.5, 20], id="growth limited to 1000/16"),
        pytest.param([0, 0, 0, -100], [0, 10 - 0.16, 10, 10 + 0.16], id="shrinkage limited to 16/1000"),
        pytest.param([-7, 0, 0, 0], [-70, 0, -60, 20], id="centre not limited"),
    ],
)
def test_decode_deltas(delta, box):
    boxes = decode_deltas(torch.tensor([[ANCHOR]]), torch.tensor([[delta]], dtype=torch.float32))
    torch.testing.assert_close(boxes, torch.tensor([[box]], dtype=torch.float32), rtol=1e-5, atol=1e-4)


def test_decode_deltas_multiplies_by_stds():
    """R-CNN heads predict deltas divided by their standard deviations."""
    anchors = torch.tensor([[ANCHOR], [[5.0, 5.0, 9.0, 6.0]]])
    raw, stds = torch.tensor([[[1.0, -2.0, 0.5, 3.0]]]), torch.tensor([0.1, 0.1, 0.2, 0.2])
    expected = decode_deltas(anchors, torch.tensor([[[0.1, -0.2, 0.1, 0.6]]]))
    torch.testing.assert_close(decode_deltas(anchors, raw, stds), expected)


def test_growth_is_limited_after_multiplication_by_stds():
    grown = decode_deltas(torch.tensor([ANCHOR]), torch.tensor([[0, 0, 20.0, 0]]), torch.full((4,), 0.2))
    torch.testing.assert_close(grown[0, 2] - grown[0, 0], torch.tensor(10 * math.exp(4.0)))


def test_without_shrink_limit_shrinkage_is_not_limited():
    boxes = decode_deltas(torch.tensor([ANCHOR]), torch.tensor([[0, 0, 100.0, -100]]), shrink_limit=False)
    torch.testing.assert_close(boxes, torch.tensor([[5 - 312.5, 10, 5 + 312.5, 10]]))


def test_inclusive_boxes_are_decoded_as_in_detectron():
    """The width is x2 - x1 + 1, so x2 and y2 of the result are one less than in continuous coordinates."""
    anchor, delta = torch.tensor([[3.0, 5, 12, 24]]), torch.tensor([[0.1, 0.2, math.log(2), 0]])
    width, height = 10, 20
    x, y = 3 + width / 2 + 0.1 * width, 5 + height / 2 + 0.2 * height
    expected = [x - width, y - height / 2, x + width - 1, y + height / 2 - 1]
    torch.testing.assert_close(decode_deltas(anchor, delta, inclusive=True)[0], torch.tensor(expected))
    unchanged = decode_deltas(anchor, torch.zeros(1, 4), inclusive=True)
    assert unchanged.equal(anchor)


def test_inclusive_boxes_are_clipped_to_the_last_pixel():
    boxes = torch.tensor([[[-1.0, 2, 40, 50]]])
    assert clip(boxes, torch.tensor([[30, 20]]), inclusive=True).tolist() == [[[0, 2, 19, 29]]]


def test_an_inclusive_box_of_one_pixel_has_area_one():
    pixel = torch.tensor([[4.0, 5, 4, 5]])
    assert not has_area(as_continuous(pixel, inclusive=False)).any()
    assert has_area(as_continuous(pixel, inclusive=True)).all()
    assert areas(as_continuous(pixel, inclusive=True)).tolist() == [1]
    assert has_area(torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 0], [0, 0, -1, 3]])).tolist() == [
        True,
        False,
        False,
    ]


def test_decode_distances():
    points, distances = torch.tensor([[4.0, 12.0], [20.0, 4.0]]), torch.tensor([[1.0, 2, 3, 4], [0, 0, 0, 0]])
    assert decode_distances(points, distances).tolist() == [[3, 10, 7, 16], [20, 4, 20, 4]]


def test_decode_tblr():
    """Distances from the anchor's centre (5, 10), in units of 4 times its height 20 or width 10."""
    anchors, values = torch.tensor([[ANCHOR]]), torch.tensor([[[0.125, 0.25, 0.5, 1.0]]])
    assert decode_tblr(anchors, values, 4.0).tolist() == [[[-15, 0, 45, 30]]]
    assert decode_tblr(anchors[0], values[0], 4.0).tolist() == [[-15, 0, 45, 30]]


def test_clip_limits_boxes_to_their_own_image():
    boxes = torch.tensor([[-5.0, -5.0, 50.0, 50.0], [12.0, 3.0, 14.0, 4.0]]).repeat(2, 1, 1)
    sizes = torch.tensor([[20, 40], [60, 10]])  # height, width
    assert clip(boxes, sizes).tolist() == [[[0, 0, 40, 20], [12, 3, 14, 4]], [[0, 0, 10, 50], [10, 3, 10, 4]]]


def test_areas():
    assert areas(torch.tensor([[0, 0, 10, 20], [3, 3, 3, 9], [0.5, 0, 1, 1]])).tolist() == [200, 0, 0.5]


def test_intersections_of_every_pair():
    a = torch.tensor([[[0.0, 0, 10, 10], [20, 20, 30, 30]]])
    b = torch.tensor([[[5.0, 5, 15, 15], [10, 0, 20, 10], [22, 21, 24, 25]]])
    assert intersections(a, b).tolist() == [[[25, 0, 0], [0, 0, 8]]]


def test_iou_must_exceed_the_threshold():
    a, b = torch.tensor([[[0.0, 0, 2, 1]]]), torch.tensor([[[0.0, 0, 1, 1], [0, 0, 1.5, 1], [5, 5, 6, 6]]])
    assert iou_above(a, b, 0.5).tolist() == [[[False, True, False]]]  # IoU 0.5, 0.75, 0


def test_boxes_without_area_have_no_iou():
    empty = torch.zeros(1, 1, 4)
    assert not iou_above(empty, empty, 0.0).any()
    assert not iou_above(empty, torch.tensor([[[0.0, 0, 1, 1]]]), 0.0).any()
