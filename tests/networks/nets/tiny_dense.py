"""Tiny FCOS and FSAF networks with random weights, and a step-by-step candidate selection to compare with."""

import torch
from tiny_one_stage import CLASSES, COUNT, by_anchor, candidates_of, spread_scores

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
    """The scales of the levels differ, as in a trained network."""
    torch.manual_seed(0)
    head = FCOSHead(WIDTH, 16, 1, CLASSES, 4, Points(STRIDES))
    for level, scale in enumerate(head.scales):
        scale.scale.data += level / 4
    parts = *trunk("conv_on_output", relu_between=True), head, GreedyNMS(0.5, COUNT)
    return spread_scores(FCOS(*parts, 40, 0.55, masked_norm), "conv_cls", "conv_reg", "conv_centerness")


def fsaf():
    torch.manual_seed(0)
    head = FSAFHead(WIDTH, 16, 1, CLASSES, Anchors(STRIDES, [1.0], [1.0]), 4.0)
    parts = *trunk("conv_on_input"), head, GreedyNMS(0.5, COUNT)
    return spread_scores(RetinaNet(*parts, 40, 0.55), "retina_cls", "retina_reg")


def cell_positions(rows, columns):
    """Column and row of all cells of a map, row by row: [rows*columns,2]."""
    return torch.tensor([(x, y) for y in range(rows) for x in range(columns)])


def select_candidates(network, logits, boxes, quality, size):
    """The NMS candidates of one level and image, step by step: boxes, scores, labels.

    logits [C,H,W]; boxes [H*W,4] and quality [H*W] of all cells; `size`: height and width of the image. The
    last result is the number of pairs above the score threshold.
    """
    scores = by_anchor(logits, CLASSES).sigmoid()
    cell, label = (scores > network.score_threshold).nonzero().T
    order = scores[cell, label].sort(descending=True, stable=True).indices[: network.nms_pre]
    cell, label, count = cell[order], label[order], len(cell)
    height, width = size
    box = boxes[cell].clamp(min=0).minimum(torch.tensor([width, height, width, height]))
    has_area = ((box[:, 2:] - box[:, :2]) > 0).all(1)
    return box[has_area], (scores[cell, label] * quality[cell])[has_area], label[has_area], count


def assert_candidates(network, boxes_of):
    """The candidates of all levels equal those of `select_candidates`; returns their scores.

    `boxes_of` maps one image's maps of a level and its stride to the boxes [H*W,4] and quality [H*W] of all
    cells.
    """
    images, sizes = torch.randn(2, 3, 128, 96), torch.tensor([[128, 96], [90, 70]])
    with torch.inference_mode():
        maps = list(network.heads(images, sizes).values())
    boxes, scores, labels = candidates_of(network, images, sizes)
    counts, width = [], len(maps) // len(STRIDES)
    for image, size in enumerate(sizes.tolist()):
        for level, stride in enumerate(STRIDES):
            level_maps = [x[image] for x in maps[width * level : width * (level + 1)]]
            *expected, count = select_candidates(network, level_maps[0], *boxes_of(level_maps, stride), size)
            rows = torch.arange(network.nms_pre) + network.nms_pre * level
            rows = rows[scores[image, rows] > 0]
            torch.testing.assert_close(boxes[image, rows], expected[0], rtol=1e-5, atol=1e-3)
            torch.testing.assert_close(scores[image, rows], expected[1], rtol=1e-5, atol=1e-6)
            assert labels[image, rows].equal(expected[2])
            counts.append(count)
    assert min(counts) < network.nms_pre < max(counts), "levels with both more and fewer pairs than nms_pre"
    return scores
