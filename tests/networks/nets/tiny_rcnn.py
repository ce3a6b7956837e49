"""Tiny R-CNNs with random weights."""

import torch
from graph_checks import enlarge_weights

from samebox.networks.blocks.anchors import Anchors
from samebox.networks.blocks.fpn import FPN
from samebox.networks.blocks.nms import GreedyNMS
from samebox.networks.blocks.resnet import ResNet
from samebox.networks.blocks.roi_align import RoIAlign
from samebox.networks.nets.cascade import AveragedMaskHeads, CascadedBoxHeads
from samebox.networks.nets.keypoint_rcnn import KeypointHead
from samebox.networks.nets.panoptic_fpn import PanopticFPN, SemanticHead
from samebox.networks.nets.point_rend import CoarseMaskHead, PointHead, PointRendRoIHead
from samebox.networks.nets.rcnn import RCNN, BoxHead, FCNMaskHead, RoIHead
from samebox.networks.nets.rpn import RPNHead

CLASSES, WIDTH, COUNT = 3, 8, 20
POINTS = 5  # keypoints of a box
STUFF = 4  # classes of stuff
STRIDES = (4, 8, 16, 32)
STDS = ([0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067])

# Side of the canvas of two images, regions on it, and the sizes of the images
CANVAS = 128
REGIONS = torch.tensor(
    [[[8.0, 12, 72, 60], [30.5, 40.25, 120.75, 110.5]], [[0.0, 0, 127, 127], [100, 90, 110, 99]]]
)
SIZES = torch.tensor([[100, 128], [128, 90]])


def pyramid():
    """Five levels [2,WIDTH,H,W], finest first."""
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(2, WIDTH, CANVAS // s, CANVAS // s, generator=generator) for s in (*STRIDES, 64)]


def box_head(stds=STDS[0], class_agnostic=False):
    return BoxHead(RoIAlign(7, STRIDES), WIDTH, 16, CLASSES, stds, class_agnostic)


def mask_head():
    return FCNMaskHead(RoIAlign(14, STRIDES), WIDTH, WIDTH, 1, CLASSES)


def keypoint_head():
    return KeypointHead(RoIAlign(14, STRIDES), WIDTH, WIDTH, 2, POINTS)


def rpn_head():
    anchors = Anchors([*STRIDES, 64], [0.5, 1.0, 2.0], [8])
    return RPNHead(WIDTH, WIDTH, anchors, GreedyNMS(0.7, 50), 60)


def cascaded_box_heads():
    return CascadedBoxHeads(box_head(stds, class_agnostic=True) for stds in STDS)


def averaged_mask_heads():
    return AveragedMaskHeads(mask_head() for _ in STDS)


def rcnn(roi_head, network_class=RCNN, **heads):
    """A network with the second stage `roi_head`, and with enlarged weights to spread its scores."""
    neck = FPN([8, 16, 32, 64], WIDTH, 5, "pool")
    network = network_class(ResNet(18, base_channels=8), neck, rpn_head(), roi_head, **heads)
    return enlarge_weights(network, "rpn_cls", "fc_cls", "fc_reg", "conv_logits", "score_lowres")


def mask_rcnn():
    torch.manual_seed(0)
    return rcnn(RoIHead(box_head(), GreedyNMS(0.5, COUNT), 0.05, mask_head()))


def semantic_head():
    return SemanticHead(WIDTH, 16, STUFF, groups=4)


def panoptic_fpn():
    torch.manual_seed(0)
    roi_head = RoIHead(box_head(), GreedyNMS(0.5, COUNT), 0.05, mask_head())
    return rcnn(roi_head, PanopticFPN, semantic_head=semantic_head())


def cascade_mask_rcnn():
    torch.manual_seed(0)
    heads = cascaded_box_heads(), GreedyNMS(0.5, COUNT), 0.05, averaged_mask_heads()
    return rcnn(RoIHead(*heads))


def keypoint_rcnn():
    torch.manual_seed(0)
    head = RoIHead(box_head(), GreedyNMS(0.5, COUNT), 0.05, drop_empty=True, keypoint_head=keypoint_head())
    return rcnn(head)


def point_rend():
    torch.manual_seed(0)
    head = PointRendRoIHead(
        box_head(),
        GreedyNMS(0.5, COUNT),
        0.05,
        CoarseMaskHead(6, WIDTH, WIDTH, 1, 16, CLASSES),
        PointHead(WIDTH, WIDTH, 2, CLASSES),
        stride=4,
        steps=3,
        points=30,
        scale=2,
    )
    return rcnn(head)
