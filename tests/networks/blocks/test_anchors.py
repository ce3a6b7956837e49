import math

import pytest
import torch

from samebox.networks.blocks.anchors import (
    Anchors,
    DetectronAnchors,
    Points,
    SizedAnchors,
    octave_scales,
    ssd_sides,
)


def all_anchors(anchors, level, height, width):
    """All anchors of a map in MMDetection's order: anchors of a cell fastest, then columns, then rows."""
    number = torch.arange(height * width * anchors.per_cell)
    return anchors(level, number // anchors.per_cell, number % anchors.per_cell, width)


def test_mmdetections_documented_example():
    """AnchorGenerator([16], [1.], [1.], [9]).grid_priors([(2, 2)]), from its documentation."""
    boxes = all_anchors(Anchors([16], [1.0], [9 / 16]), 0, 2, 2)
    assert boxes.tolist() == [
        [-4.5, -4.5, 4.5, 4.5],
        [11.5, -4.5, 20.5, 4.5],
        [-4.5, 11.5, 4.5, 20.5],
        [11.5, 11.5, 20.5, 20.5],
    ]


@pytest.mark.parametrize(("level", "stride"), list(enumerate([8, 16, 32, 64, 128])))
def test_retinanet_anchors_of_a_whole_map(level, stride):
    ratios, scales = [0.5, 1.0, 2.0], octave_scales(4, 3)
    anchors = Anchors([8, 16, 32, 64, 128], ratios, scales)
    assert anchors.per_cell == 9
    expected = [
        [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        for y in (0, stride)
        for x in (0, stride, 2 * stride)
        for ratio in ratios
        for scale in scales
        for w, h in [(stride * scale / math.sqrt(ratio), stride * scale * math.sqrt(ratio))]
    ]
    torch.testing.assert_close(
        all_anchors(anchors, level, 2, 3), torch.tensor(expected), rtol=1e-6, atol=1e-4
    )


def test_ratio_is_height_over_width():
    x1, y1, x2, y2 = Anchors([8], [2.0], [4.0])(0, torch.tensor(0), torch.tensor(0), 1).tolist()
    assert (y2 - y1) / (x2 - x1) == pytest.approx(2)
    assert (y2 - y1) * (x2 - x1) == pytest.approx(32 * 32)


def test_ratios_inner_orders_by_scale_then_ratio():
    ratios, scales = [0.5, 1.0, 2.0], [4.0, 8.0]
    outer, inner = (Anchors([8], ratios, scales, ratios_inner).sides for ratios_inner in (False, True))
    assert inner.equal(outer.unflatten(0, (3, 2)).transpose(0, 1).flatten(0, 1))
    assert not inner.equal(outer)


def test_detectron_anchors_are_rounded_to_whole_pixels():
    """Anchors of stride 4 and size 32, and of stride 8 and size 64, at the first cell and at another one."""
    anchors = DetectronAnchors([4, 8], [0.5, 1.0, 2.0], [8])
    assert anchors.per_cell == 3
    first = [[-22, -10, 25, 13], [-14, -14, 17, 17], [-10, -22, 13, 25]]
    second = [[-40, -20, 47, 27], [-28, -28, 35, 35], [-20, -44, 27, 51]]
    assert all_anchors(anchors, 0, 1, 1).tolist() == first
    assert all_anchors(anchors, 1, 1, 1).tolist() == second
    moved = anchors(1, torch.tensor([7]), torch.tensor([1]), 5)  # row 1, column 2
    assert moved.tolist() == [[-28 + 16, -28 + 8, 35 + 16, 35 + 8]]


def test_octave_scales():
    assert octave_scales(4, 3) == pytest.approx([4, 4 * 2 ** (1 / 3), 4 * 2 ** (2 / 3)])


def test_sized_anchors_are_centred_on_the_cell():
    """On a map of three columns the fifth cell is in row 1, column 1."""
    anchors = SizedAnchors([8, 100], [[(4, 6)], [(10, 20), (30, 60)]])
    assert anchors.per_cell == (1, 2)
    cells, indices = torch.tensor([[0, 4]]), torch.tensor([[0, 0]])
    assert anchors(0, cells, indices, 3).tolist() == [[[2, 1, 6, 7], [10, 9, 14, 15]]]
    assert anchors(1, cells, indices + 1, 3).tolist() == [[[35, 20, 65, 80], [135, 120, 165, 180]]]


def test_points_are_cell_centres():
    boxes = Points([8, 16])(1, torch.tensor([[0, 4, 5]]), torch.zeros(1, 3, dtype=torch.int64), 3)
    assert boxes.tolist() == [[[8, 8], [24, 24], [40, 24]]]


def test_ssd_sides():
    """The second level of SSD300: min_size 45, max_size 99, ratios 2 and 3."""
    _, sides = ssd_sides([21, 45], [45, 99], [[2], [2, 3]])
    expected = [
        [45, 45],
        [math.sqrt(45 * 99)] * 2,
        *([45 * math.sqrt(w), 45 / math.sqrt(w)] for w in (2, 1 / 2, 3, 1 / 3)),
    ]
    torch.testing.assert_close(torch.tensor(sides), torch.tensor(expected))


def test_anchors_have_no_entries_in_the_state_dict():
    assert not Anchors([8], [1.0], [4.0]).state_dict()
    assert not SizedAnchors([8], [[(4, 6)]]).state_dict()
    assert not Points([8]).state_dict()
