from itertools import pairwise

import pytest
import torch
from tiny_rcnn import REGIONS, SIZES, averaged_mask_heads, cascade_mask_rcnn, cascaded_box_heads, pyramid


@pytest.fixture(scope="module")
def maps():
    return pyramid()


@pytest.fixture(scope="module")
def heads():
    torch.manual_seed(3)
    heads = cascaded_box_heads()
    for head in heads:
        head.fc_reg.weight.data *= 20
        head.fc_cls.weight.data *= 20
    return heads


def test_each_head_refines_the_boxes_of_the_one_before(maps, heads):
    with torch.inference_mode():
        first, _ = heads[0](maps, REGIONS, SIZES)
        second, _ = heads[1](maps, first[:, :, 0], SIZES)
        third, _ = heads[2](maps, second[:, :, 0], SIZES)
        result, _ = heads(maps, REGIONS, SIZES)
    assert result.equal(third)
    stages = [REGIONS[:, :, None], first, second, third]
    for before, after in pairwise(stages):
        assert ((before - after).abs() > 0.1).any(), "the boxes do not move"


def test_scores_are_those_of_the_mean_of_all_logits(maps, heads):
    boxes, logits = REGIONS, []
    with torch.inference_mode():
        for head in heads:
            refined, head_logits = head.refine(maps, boxes, SIZES)
            logits.append(head_logits)
            boxes = refined[:, :, 0]
        _, scores = heads(maps, REGIONS, SIZES)
    expected = (sum(logits) / 3).softmax(-1)[..., :-1]
    torch.testing.assert_close(scores, expected)
    mean_of_probabilities = sum(x.softmax(-1) for x in logits)[..., :-1] / 3
    assert not torch.allclose(scores, mean_of_probabilities, atol=1e-3), "the two means are equal"


def test_masks_are_the_mean_of_the_probabilities_of_all_heads(maps):
    torch.manual_seed(5)
    heads, labels = averaged_mask_heads(), torch.tensor([[2, 0], [1, 1]])
    with torch.inference_mode():
        masks = heads(maps, REGIONS, labels)
        torch.testing.assert_close(masks, sum(head(maps, REGIONS, labels) for head in heads) / 3)
    assert masks.shape == (2, 2, 28, 28)


def test_parameter_names():
    names = set(cascade_mask_rcnn().roi_head.state_dict())
    boxes = ("shared_fcs.0", "shared_fcs.1", "fc_cls", "fc_reg")
    masks = ("convs.0.conv", "upsample", "conv_logits")
    assert names == {
        f"{heads}.{stage}.{layer}.{part}"
        for heads, layers in (("bbox_head", boxes), ("mask_head", masks))
        for stage in range(3)
        for layer in layers
        for part in ("weight", "bias")
    }
    assert cascade_mask_rcnn().state_dict()["roi_head.bbox_head.2.fc_reg.weight"].shape[0] == 4
