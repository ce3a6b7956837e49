"""SSD and YOLOv3 as small as they can be, with weights of their own, and what their tests share."""

from functools import partial

import numpy as np
import torch
from torch import nn

from samebox.networks.blocks.anchors import SizedAnchors, ssd_sides
from samebox.networks.blocks.darknet import Darknet
from samebox.networks.blocks.mobilenet import MobileNetV2
from samebox.networks.blocks.nms import GreedyNMS
from samebox.networks.blocks.vgg import VGG16, L2Norm
from samebox.networks.nets.contract import Deployable, Normalize
from samebox.networks.nets.ssd import SSD, SSDHead, SSDNeck
from samebox.networks.nets.yolov3 import YOLOv3, YOLOv3Head, YOLOv3Neck
from samebox.record.preprocess import Preprocess, Resize
from samebox.record.spec import Spec

CLASSES, FOUND = 3, 20
NAMES = ("a", "b", "c")
NORMALIZE = {"mean": [120.0] * 3, "std": [60.0] * 3, "channel_order": "RGB"}

# SSD's canvas is fixed; YOLOv3 pads to a multiple of 32
FIXED, PADDED = Preprocess(Resize((64, 64), keep_ratio=False), 1, (64, 64)), Preprocess(Resize((128, 128)))
SSD_SPEC, YOLO_SPEC = (Spec("tiny", NAMES, rule, NORMALIZE, "0" * 64) for rule in (FIXED, PADDED))


def apart(network, *heads):
    """`network` ready to run, its norms adjusted to noise and `heads` enlarged, so that scores differ."""
    for name, parameter in network.named_parameters():
        if any(head in name for head in heads):
            parameter.data *= 8
    with torch.no_grad():
        network.train().heads(torch.randn(16, 3, 64, 64), torch.tensor([[64, 64]] * 16))
    return network.eval()


def ssd():
    """Levels of 8, 4 and 1 cells a side, with 4, 6 and 4 anchors a cell."""
    torch.manual_seed(0)
    anchors = SizedAnchors([8, 16, 64], ssd_sides([10, 15, 25], [15, 25, 40], [[2], [2, 3], [2]]))
    neck = SSDNeck([32, 16], [8], [2], [0], L2Norm(32))
    head = SSDHead([32, 16, 8], CLASSES, anchors, [0.1, 0.1, 0.2, 0.2])
    network = SSD(VGG16(4, 16), neck, head, GreedyNMS(0.45, FOUND), 60, 0.25)
    return apart(network, "reg_convs", "cls_convs.1", "cls_convs.2")


def ssdlite():
    """Levels of 4, 2 and 1 cells a side."""
    torch.manual_seed(0)
    norm, activation = partial(nn.BatchNorm2d, eps=0.001), nn.ReLU6
    anchors = SizedAnchors([16, 32, 64], ssd_sides([15, 25, 40], [25, 40, 60], [[2], [2, 3], [2]]))
    neck = SSDNeck([96, 1280], [16], [2], [1], None, norm, activation)
    head = SSDHead([96, 1280, 16], CLASSES, anchors, [0.1, 0.1, 0.2, 0.2], norm, activation)
    network = SSD(MobileNetV2([4, 7], norm, activation), neck, head, GreedyNMS(0.45, FOUND), 60, 0.25)
    return apart(network, "reg_convs", "cls_convs")


def yolov3():
    """On three stages of Darknet."""
    torch.manual_seed(0)
    return yolov3_on(Darknet(8, (1, 1, 1)), (64, 32, 16), [8, 4, 2])


def yolov3_mobilenet():
    """On MobileNetV2."""
    torch.manual_seed(0)
    backbone = MobileNetV2([2, 4, 6], activation=partial(nn.LeakyReLU, 0.1))
    return yolov3_on(backbone, (320, 96, 32), [32, 16, 8])


def yolov3_on(backbone, channels, strides):
    """Levels with 2, 3 and 3 anchors a cell, coarsest first. `channels` and `strides`: the backbone's."""
    sides = [[(60, 40), (40, 70)], [(30, 20), (20, 30), (25, 25)], [(8, 12), (12, 8), (16, 16)]]
    head = YOLOv3Head([16, 8, 8], [16, 8, 8], CLASSES, SizedAnchors(strides, sides))
    network = YOLOv3(backbone, YOLOv3Neck(channels, [16, 8, 8]), head, GreedyNMS(0.45, FOUND), 60, 0.4, 0.45)
    return apart(network, "convs_pred")


def deployable(network):
    return Deployable(Normalize(**NORMALIZE), network).eval()


def drawn(sizes, height, width):
    """Images [N,3,height,width] of noise, and their sizes [N,2]."""
    images = np.random.default_rng(3).uniform(0, 255, (len(sizes), 3, height, width)).astype(np.float32)
    return {"images": images, "sizes": np.array(sizes, np.int64)}


def answered(network, inputs):
    """The network's named outputs as arrays."""
    with torch.inference_mode():
        outputs = network(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    return {name: output.numpy() for name, output in outputs.items()}


class Recorder(nn.Module):
    """In the place of an NMS: keeps what it is given."""

    def forward(self, boxes, scores, labels):
        self.given = boxes, scores, labels
        return self.given


def candidates_of(network, images, sizes):
    """What `network` gives to its NMS: boxes [B,N,4], scores [B,N], labels [B,N]."""
    nms, network.nms = network.nms, Recorder()
    with torch.inference_mode():
        network(images, sizes)
    given, network.nms = network.nms.given, nms
    return given


def by_anchor(x, width):
    """A map [kinds*width,H,W] → [H*W*kinds,width], as MMDetection flattens it."""
    return x.permute(1, 2, 0).reshape(-1, width)


def grid(sides, stride, height, width):
    """All anchors of a level [H*W*kinds,4] as centre x, y, width, height, in the same order."""
    rows = [[x + 0.5, y + 0.5, *side] for y in range(height) for x in range(width) for side in sides]
    return torch.tensor(rows) * torch.tensor([stride, stride, 1, 1])


def corners(centres, sides):
    """Centres [N,2] and sides [N,2] → boxes [N,4]."""
    return torch.cat([centres - sides / 2, centres + sides / 2], 1)
