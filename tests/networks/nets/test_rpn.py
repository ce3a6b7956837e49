import numpy as np
import pytest
import torch

from samebox.networks.blocks.anchors import Anchors
from samebox.networks.blocks.boxes import clip, decode_deltas
from samebox.networks.blocks.nms import GreedyNMS
from samebox.networks.nets.rpn import RPNHead

STRIDES, RATIOS, SCALE = (4, 8, 16), (0.5, 1.0, 2.0), 4
PER_CELL = len(RATIOS)
CANVAS = (64, 96)


class FromMaps(RPNHead):
    """An RPN head whose input maps hold the logits and deltas themselves."""

    def predict(self, x):
        return x[:, :PER_CELL], x[:, PER_CELL:]


def head(count, nms_pre):
    return FromMaps(1, 1, Anchors(STRIDES, RATIOS, [SCALE]), GreedyNMS(0.7, count), nms_pre)


def random_predictions(seed, batch, spread):
    """Random logits and deltas of three levels: [B,PER_CELL*5,H,W] each."""
    generator = torch.Generator().manual_seed(seed)
    maps = []
    for stride in STRIDES:
        height, width = CANVAS[0] // stride, CANVAS[1] // stride
        logits = torch.randn(batch, PER_CELL, height, width, generator=generator).mul(spread).clamp(min=-80)
        deltas = torch.randn(batch, PER_CELL * 4, height, width, generator=generator) * 0.4
        maps.append(torch.cat([logits, deltas], 1))
    return maps


def anchors_of(stride, height, width):
    """Anchors row by row, those of a cell innermost: [H*W*PER_CELL,4], float64."""
    rows = []
    for y in range(height):
        for x in range(width):
            for ratio in RATIOS:
                w, h = SCALE * stride / ratio**0.5, SCALE * stride * ratio**0.5
                rows.append([x * stride - w / 2, y * stride - h / 2, x * stride + w / 2, y * stride + h / 2])
    return torch.tensor(rows, dtype=torch.float64)


def iou(box, others):
    common = (np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])).clip(min=0).prod(1)
    areas = (others[:, 2:] - others[:, :2]).prod(1)
    return common / ((box[2:] - box[:2]).prod() + areas - common)


def proposals_of(maps, image, size, count, nms_pre):
    """The proposals of one image, step by step."""
    boxes, scores, levels = [], [], []
    for level, x in enumerate(maps):
        _, _, height, width = x.shape
        logits = x[image, :PER_CELL].permute(1, 2, 0).flatten()
        deltas = x[image, PER_CELL:].permute(1, 2, 0).reshape(-1, 4)
        objectness, order = (1 / (1 + (-logits).exp())).sort(descending=True, stable=True)
        order = order[:nms_pre]
        decoded = decode_deltas(anchors_of(STRIDES[level], height, width)[order].float(), deltas[order])
        boxes.append(clip(decoded[None], torch.tensor([size]))[0].numpy())
        scores.append(objectness[:nms_pre].numpy())
        levels.append(np.full(len(order), level))
    boxes, scores, levels = map(np.concatenate, (boxes, scores, levels))
    kept = []
    for row in np.argsort(-scores, kind="stable"):
        same_level = [other for other in kept if levels[other] == levels[row]]
        if (boxes[row, 2:] > boxes[row, :2]).all() and not (iou(boxes[row], boxes[same_level]) > 0.7).any():
            kept.append(row)
    return boxes[kept[:count]], scores[kept[:count]]


@pytest.mark.parametrize("spread", [1.0, 60.0], ids=["different scores", "many scores of 1"])
@pytest.mark.parametrize(
    ("count", "nms_pre"),
    [
        pytest.param(100, 200, id="more anchors than nms_pre"),
        pytest.param(1000, 1200, id="fewer anchors than count"),
        pytest.param(20, 50, id="small count"),
    ],
)
def test_proposals_are_those_selected_step_by_step(count, nms_pre, spread):
    maps, sizes = random_predictions(1, 2, spread), [[64, 96], [40, 50]]
    boxes, scores = head(count, nms_pre)(maps, torch.tensor(sizes))
    assert (boxes.shape, scores.shape) == ((2, count, 4), (2, count))
    assert ((scores == 1).sum() > 10) == (spread > 1)
    for image, size in enumerate(sizes):
        expected_boxes, expected_scores = proposals_of(maps, image, size, count, nms_pre)
        number = len(expected_scores)
        assert number > 10
        np.testing.assert_array_equal(scores[image, :number], expected_scores)
        np.testing.assert_allclose(boxes[image, :number], expected_boxes, atol=1e-4)
        assert not scores[image, number:].any()
        assert not boxes[image, number:].any()


def test_boxes_of_different_levels_do_not_suppress_each_other():
    maps = [torch.full((1, PER_CELL * 5, CANVAS[0] // s, CANVAS[1] // s), -200.0) for s in STRIDES]
    box = torch.tensor([20.0, 20.0, 44.0, 44.0])
    for level, x in enumerate(maps):  # the square anchor of each level is decoded to the same box
        row, column, side = 16 // STRIDES[level], 32 // STRIDES[level], SCALE * STRIDES[level]
        x[0, 1, row, column] = 1.0 + level
        deltas = torch.tensor([0.0, (32 - 16) / side, np.log(24 / side), np.log(24 / side)])
        x[0, PER_CELL + 4 : PER_CELL + 8, row, column] = deltas
    boxes, scores = head(3, 10)(maps, torch.tensor([CANVAS]))
    torch.testing.assert_close(boxes[0], box.repeat(3, 1))
    torch.testing.assert_close(scores[0], torch.tensor([3.0, 2.0, 1.0]).sigmoid())


def test_an_image_without_area_has_no_proposals():
    boxes, scores = head(30, 40)(random_predictions(2, 2, 1.0), torch.tensor([[0, 0], [64, 96]]))
    assert not boxes[0].any()
    assert not scores[0].any()
    assert (scores[1] > 0).all()


def test_prediction_shapes_and_parameters():
    torch.manual_seed(0)
    rpn = RPNHead(5, 6, Anchors(STRIDES, RATIOS, [SCALE]), GreedyNMS(0.7, 10), 10)
    logits, deltas = rpn.predict(torch.randn(2, 5, 7, 9))
    assert (logits.shape, deltas.shape) == ((2, PER_CELL, 7, 9), (2, PER_CELL * 4, 7, 9))
    assert {name: tuple(value.shape) for name, value in rpn.state_dict().items()} == {
        "rpn_conv.weight": (6, 5, 3, 3),
        "rpn_conv.bias": (6,),
        "rpn_cls.weight": (PER_CELL, 6, 1, 1),
        "rpn_cls.bias": (PER_CELL,),
        "rpn_reg.weight": (PER_CELL * 4, 6, 1, 1),
        "rpn_reg.bias": (PER_CELL * 4,),
    }
