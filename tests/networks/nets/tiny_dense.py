"""FCOS and FSAF as small as they can be, with weights of their own."""

import torch
from tiny_one_stage import CLASSES, FOUND, apart, by_anchor, candidates_of

from samebox.networks.blocks.anchors import Anchors, Points
from samebox.networks.blocks.fpn import FPN
from samebox.networks.blocks.nms import GreedyNMS
from samebox.networks.blocks.resnet import ResNet
from samebox.networks.nets.fcos import FCOS, FCOSHead
from samebox.networks.nets.fsaf import FSAFHead
from samebox.networks.nets.retinanet import RetinaNet

WIDTH, STRIDES = 8, (8, 16, 32, 64)


def trunk(extra_levels, **options):
    """A backbone without its last stage, and a pyramid of four levels."""
    backbone = ResNet(18, "caffe", base_channels=8, out_stages=[1, 2])
    return backbone, FPN([16, 32], WIDTH, len(STRIDES), extra_levels, **options)


def fcos(masked_norm=False):
    """The factors of its levels differ, as trained ones do."""
    torch.manual_seed(0)
    head = FCOSHead(WIDTH, 16, 1, CLASSES, 4, Points(STRIDES))
    for level, scale in enumerate(head.scales):
        scale.scale.data += level / 4
    parts = *trunk("conv_on_output", relu_between=True), head, GreedyNMS(0.5, FOUND)
    return apart(FCOS(*parts, 40, 0.55, masked_norm), "conv_cls", "conv_reg", "conv_centerness")


def fsaf():
    torch.manual_seed(0)
    head = FSAFHead(WIDTH, 16, 1, CLASSES, Anchors(STRIDES, [1.0], [1.0]), 4.0)
    parts = *trunk("conv_on_input"), head, GreedyNMS(0.5, FOUND)
    return apart(RetinaNet(*parts, 40, 0.55), "retina_cls", "retina_reg")


def grid(rows, columns):
    """Column and row of all cells of a map, row by row: [rows*columns,2]."""
    return torch.tensor([(x, y) for y in range(rows) for x in range(columns)])


def by_definition(network, logits, boxes, quality, size):
    """What a level of one image gives to the NMS, step by step: boxes, scores and labels; out of how many.

    logits [C,H,W]; `boxes` [H*W,4] and `quality` [H*W] of all cells; `size`: height and width of the image.
    """
    scores = by_anchor(logits, CLASSES).sigmoid()
    cell, label = (scores > network.score_threshold).nonzero().T
    order = scores[cell, label].sort(descending=True, stable=True).indices[: network.nms_pre]
    cell, label, count = cell[order], label[order], len(cell)
    height, width = size
    box = boxes[cell].clamp(min=0).minimum(torch.tensor([width, height, width, height]))
    seen = ((box[:, 2:] - box[:, :2]) > 0).all(1)
    return box[seen], (scores[cell, label] * quality[cell])[seen], label[seen], count


def assert_by_definition(network, boxes_of):
    """The candidates of all levels are those of the definition.

    `boxes_of` tells of a level's maps of one image and its stride: boxes [H*W,4] of all cells, and their
    quality [H*W].
    """
    images, sizes = torch.randn(2, 3, 128, 96), torch.tensor([[128, 96], [90, 70]])
    with torch.inference_mode():
        maps = list(network.heads(images, sizes).values())
    boxes, scores, labels = candidates_of(network, images, sizes)
    counts, width = [], len(maps) // len(STRIDES)
    for image, size in enumerate(sizes.tolist()):
        for level, stride in enumerate(STRIDES):
            own = [x[image] for x in maps[width * level : width * (level + 1)]]
            *expected, count = by_definition(network, own[0], *boxes_of(own, stride), size)
            rows = torch.arange(network.nms_pre) + network.nms_pre * level
            rows = rows[scores[image, rows] > 0]
            torch.testing.assert_close(boxes[image, rows], expected[0], rtol=1e-5, atol=1e-3)
            torch.testing.assert_close(scores[image, rows], expected[1], rtol=1e-5, atol=1e-6)
            assert labels[image, rows].equal(expected[2])
            counts.append(count)
    assert min(counts) < network.nms_pre < max(counts), "levels are all alike: the case shows little"
    return scores
