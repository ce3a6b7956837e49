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


def grid(anchors, level, height, width):
    """All anchors of a map, as MMDetection lays them out: kinds fastest, then columns, then rows."""
    index = torch.arange(height * width * anchors.kinds)
    return anchors(level, index // anchors.kinds, index % anchors.kinds, width)


def test_the_example_of_mmdetection():
    """AnchorGenerator([16], [1.], [1.], [9]).grid_priors([(2, 2)]), from its documentation."""
    found = grid(Anchors([16], [1.0], [9 / 16]), 0, 2, 2)
    assert found.tolist() == [
        [-4.5, -4.5, 4.5, 4.5],
        [11.5, -4.5, 20.5, 4.5],
        [-4.5, 11.5, 4.5, 20.5],
        [11.5, 11.5, 20.5, 20.5],
    ]


@pytest.mark.parametrize(("level", "stride"), list(enumerate([8, 16, 32, 64, 128])))
def test_the_grid_of_retinanet(level, stride):
    ratios, scales = [0.5, 1.0, 2.0], octave_scales(4, 3)
    anchors = Anchors([8, 16, 32, 64, 128], ratios, scales)
    assert anchors.kinds == 9
    expected = [
        [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        for y in (0, stride)
        for x in (0, stride, 2 * stride)
        for ratio in ratios
        for scale in scales
        for w, h in [(stride * scale / math.sqrt(ratio), stride * scale * math.sqrt(ratio))]
    ]
    torch.testing.assert_close(grid(anchors, level, 2, 3), torch.tensor(expected), rtol=1e-6, atol=1e-4)


def test_a_ratio_is_height_to_width():
    x1, y1, x2, y2 = Anchors([8], [2.0], [4.0])(0, torch.tensor(0), torch.tensor(0), 1).tolist()
    assert (y2 - y1) / (x2 - x1) == pytest.approx(2)
    assert (y2 - y1) * (x2 - x1) == pytest.approx(32 * 32)


def test_detectron2_numbers_ratios_within_scales():
    ratios, scales = [0.5, 1.0, 2.0], [4.0, 8.0]
    outer, inner = (Anchors([8], ratios, scales, order).sides for order in (False, True))
    assert inner.equal(outer.unflatten(0, (3, 2)).transpose(0, 1).flatten(0, 1))
    assert not inner.equal(outer)


def test_detectrons_anchors_are_whole_pixels():
    """Those of stride 4 and size 32, and of stride 8 and size 64, at the first cell and at another."""
    anchors = DetectronAnchors([4, 8], [0.5, 1.0, 2.0], [8])
    assert anchors.kinds == 3
    first = [[-22, -10, 25, 13], [-14, -14, 17, 17], [-10, -22, 13, 25]]
    second = [[-40, -20, 47, 27], [-28, -28, 35, 35], [-20, -44, 27, 51]]
    assert grid(anchors, 0, 1, 1).tolist() == first
    assert grid(anchors, 1, 1, 1).tolist() == second
    moved = anchors(1, torch.tensor([7]), torch.tensor([1]), 5)  # row 1, column 2
    assert moved.tolist() == [[-28 + 16, -28 + 8, 35 + 16, 35 + 8]]


def test_octave_scales():
    assert octave_scales(4, 3) == pytest.approx([4, 4 * 2 ** (1 / 3), 4 * 2 ** (2 / 3)])


def test_sizes_in_pixels_at_the_centre_of_the_cell():
    """A map of three columns: its fifth cell is in the second row and column."""
    anchors = SizedAnchors([8, 100], [[(4, 6)], [(10, 20), (30, 60)]])
    assert anchors.kinds == (1, 2)
    cells, kinds = torch.tensor([[0, 4]]), torch.tensor([[0, 0]])
    assert anchors(0, cells, kinds, 3).tolist() == [[[2, 1, 6, 7], [10, 9, 14, 15]]]
    assert anchors(1, cells, kinds + 1, 3).tolist() == [[[35, 20, 65, 80], [135, 120, 165, 180]]]


def test_points_are_the_centres_of_cells():
    found = Points([8, 16])(1, torch.tensor([[0, 4, 5]]), torch.zeros(1, 3, dtype=torch.int64), 3)
    assert found.tolist() == [[[8, 8], [24, 24], [40, 24]]]


def test_sides_of_ssd():
    """The second level of SSD300: 45 to 99 pixels, ratios 2 and 3."""
    _, found = ssd_sides([21, 45], [45, 99], [[2], [2, 3]])
    expected = [
        [45, 45],
        [math.sqrt(45 * 99)] * 2,
        *([45 * math.sqrt(w), 45 / math.sqrt(w)] for w in (2, 1 / 2, 3, 1 / 3)),
    ]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected))


def test_no_parameter_is_asked_of_a_checkpoint():
    assert not Anchors([8], [1.0], [4.0]).state_dict()
    assert not SizedAnchors([8], [[(4, 6)]]).state_dict()
    assert not Points([8]).state_dict()
