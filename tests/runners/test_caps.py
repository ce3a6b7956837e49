import pytest
import torch
from torch import nn

from samebox.networks.blocks.nms import GreedyNMS
from samebox.runners.caps import Caps

PER_LEVEL, LEVELS = 3, 2


class Candidates(nn.Module):
    """A network whose inputs are the scores and labels of its candidates, none of which overlap."""

    nms_pre = PER_LEVEL

    def __init__(self):
        super().__init__()
        self.rpn_nms = GreedyNMS(0.5, 1)
        self.nms = GreedyNMS(0.5, 4, per_class=2)

    def forward(self, scores, labels):
        corners = torch.arange(scores.shape[1]).expand_as(scores)[..., None] * 10.0
        boxes = torch.cat([corners, corners + 5], 2).repeat_interleave(2, 2)
        self.rpn_nms(boxes, scores, labels)
        return self.nms(boxes, scores, labels)


@pytest.fixture
def network():
    return Candidates()


def counted(network, scores, labels):
    with Caps(network) as caps:
        network(torch.tensor(scores), torch.tensor(labels))
    return caps.images


def test_each_cap_that_an_image_reaches_is_counted(network):
    few, full_level = [0.9, 0, 0, 0.8, 0, 0], [0.9, 0.8, 0.7, 0, 0, 0]
    full_image = [0.9, 0.8, 0, 0.7, 0.6, 0]
    scores = [few, full_level, full_image, full_image]
    images = counted(network, scores, [[0, 1, 2, 3, 4, 5]] * 3 + [[1] * 6])
    assert images == {"nms_pre=3": 1, "max_per_img=4": 1, "max_output_boxes_per_class=2": 1}


def test_padding_rows_reach_no_cap(network):
    assert not any(counted(network, [[0.9, 0, 0, 0, 0, 0]], [[0, 0, 0, 0, 0, 0]]).values())


def test_nothing_is_counted_after_the_block(network):
    with Caps(network) as caps:
        pass
    network(torch.full((1, 6), 0.5), torch.arange(6)[None])
    assert not caps.images


def test_a_network_without_an_nms_has_no_caps():
    with Caps(nn.Linear(1, 1)) as caps:
        assert not caps.images
