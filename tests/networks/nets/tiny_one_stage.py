"""Tiny SSD and YOLOv3 networks with random weights, and helpers that their tests share."""

from functools import partial

import numpy as np
import pytest
import torch
from graph_checks import enlarge_weights
from torch import nn

from samebox.engine.build import engine_from_onnx
from samebox.engine.profile import Profile
from samebox.graph.export import export
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
from samebox.runners.onnxruntime import OnnxRuntimeRunner

CLASSES, COUNT = 3, 20
NAMES = ("a", "b", "c")
NORMALIZE = {"mean": [120.0] * 3, "std": [60.0] * 3, "channel_order": "RGB"}

# A fixed canvas, as of SSD, and padding to a multiple of 32, as of YOLOv3
FIXED, PADDED = Preprocess(Resize((64, 64), keep_ratio=False), 1, (64, 64)), Preprocess(Resize((128, 128)))
FIXED_SPEC, PADDED_SPEC = (Spec("tiny", NAMES, rule, NORMALIZE, "0" * 64) for rule in (FIXED, PADDED))


def spread_scores(network, *heads):
    """`network` in eval mode, with enlarged weights of `heads`, and norms calibrated on noise."""
    enlarge_weights(network, *heads)
    with torch.no_grad():
        network.train().heads(torch.randn(16, 3, 64, 64), torch.tensor([[64, 64]] * 16))
    return network.eval()


def ssd():
    """Levels of 8x8, 4x4 and 1x1 cells, with 4, 6 and 4 anchors per cell."""
    torch.manual_seed(0)
    anchors = SizedAnchors([8, 16, 64], ssd_sides([10, 15, 25], [15, 25, 40], [[2], [2, 3], [2]]))
    neck = SSDNeck([32, 16], [8], [2], [0], L2Norm(32))
    head = SSDHead([32, 16, 8], CLASSES, anchors, [0.1, 0.1, 0.2, 0.2])
    network = SSD(VGG16(4, 16), neck, head, GreedyNMS(0.45, COUNT), 60, 0.25)
    return spread_scores(network, "reg_convs", "cls_convs.1", "cls_convs.2")


def ssdlite():
    """Levels of 4x4, 2x2 and 1x1 cells."""
    torch.manual_seed(0)
    norm, activation = partial(nn.BatchNorm2d, eps=0.001), nn.ReLU6
    anchors = SizedAnchors([16, 32, 64], ssd_sides([15, 25, 40], [25, 40, 60], [[2], [2, 3], [2]]))
    neck = SSDNeck([96, 1280], [16], [2], [1], None, norm, activation)
    head = SSDHead([96, 1280, 16], CLASSES, anchors, [0.1, 0.1, 0.2, 0.2], norm, activation)
    network = SSD(MobileNetV2([4, 7], norm, activation), neck, head, GreedyNMS(0.45, COUNT), 60, 0.25)
    return spread_scores(network, "reg_convs", "cls_convs")


def yolov3():
    """On a Darknet of three stages."""
    torch.manual_seed(0)
    return yolov3_on(Darknet(8, (1, 1, 1)), (64, 32, 16), [8, 4, 2])


def yolov3_mobilenet():
    """On MobileNetV2."""
    torch.manual_seed(0)
    backbone = MobileNetV2([2, 4, 6], activation=partial(nn.LeakyReLU, 0.1))
    return yolov3_on(backbone, (320, 96, 32), [32, 16, 8])


def yolov3_on(backbone, channels, strides):
    """Levels with 2, 3 and 3 anchors per cell. `channels` and `strides`: of the backbone, coarsest first."""
    sides = [[(60, 40), (40, 70)], [(30, 20), (20, 30), (25, 25)], [(8, 12), (12, 8), (16, 16)]]
    head = YOLOv3Head([16, 8, 8], [16, 8, 8], CLASSES, SizedAnchors(strides, sides))
    network = YOLOv3(backbone, YOLOv3Neck(channels, [16, 8, 8]), head, GreedyNMS(0.45, COUNT), 60, 0.4, 0.45)
    return spread_scores(network, "convs_pred")


def deployable(network):
    return Deployable(Normalize(**NORMALIZE), network).eval()


def random_inputs(sizes, height, width):
    """Inputs of a network: images [N,3,height,width] of noise, and their sizes [N,2]."""
    images = np.random.default_rng(3).uniform(0, 255, (len(sizes), 3, height, width)).astype(np.float32)
    return {"images": images, "sizes": np.array(sizes, np.int64)}


def run(network, inputs):
    """The outputs of `network` by name, as arrays."""
    with torch.inference_mode():
        outputs = network(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    return {name: output.numpy() for name, output in outputs.items()}


def exported(network, spec, folder):
    """The deployable network and the path of its ONNX file in `folder`."""
    deployed, path = deployable(network), folder / "model.onnx"
    export(deployed, spec, path, opset=18, lowering="portable")
    return deployed, path


def run_file(path, inputs):
    """The outputs of the ONNX file in ONNX Runtime, by name."""
    with OnnxRuntimeRunner(path) as runner:
        return runner(inputs)


def assert_engine_builds(path, folder, height=(64, 128, 256), width=(64, 160, 256)):
    """An engine is built for batches of one to four; `height` and `width`: smallest, usual, largest."""
    pytest.importorskip("tensorrt_rtx")
    served = Profile(batch=(1, 1, 4), height=height, width=width)
    assert engine_from_onnx(path, folder / "model.engine", served, targets=["SM89"]).layers > 100


class Recorder(nn.Module):
    """Replaces an NMS and records its inputs."""

    def forward(self, boxes, scores, labels):
        self.inputs = boxes, scores, labels
        return self.inputs


def candidates_of(network, images, sizes):
    """The inputs of the network's NMS: boxes [B,N,4], scores [B,N], labels [B,N]."""
    nms, network.nms = network.nms, Recorder()
    with torch.inference_mode():
        network(images, sizes)
    inputs, network.nms = network.nms.inputs, nms
    return inputs


def by_anchor(x, width):
    """A map [A*width,H,W] → [H*W*A,width], flattened as in MMDetection."""
    return x.permute(1, 2, 0).reshape(-1, width)


def anchor_grid(sides, stride, height, width):
    """All anchors of a level [H*W*A,4] as centre x, y, width, height, in the order of `by_anchor`."""
    rows = [[x + 0.5, y + 0.5, *side] for y in range(height) for x in range(width) for side in sides]
    return torch.tensor(rows) * torch.tensor([stride, stride, 1, 1])


def corners(centres, sides):
    """Centres [N,2] and sides [N,2] → boxes [N,4]."""
    return torch.cat([centres - sides / 2, centres + sides / 2], 1)
