"""A small RetinaNet with random weights. Run as a program, it exports the network.

python tiny_export.py FILE
"""

import sys

import torch

from samebox.graph.export import export
from samebox.networks.blocks.anchors import Anchors
from samebox.networks.blocks.fpn import FPN
from samebox.networks.blocks.nms import GreedyNMS
from samebox.networks.blocks.resnet import ResNet
from samebox.networks.nets.contract import Deployable, Normalize
from samebox.networks.nets.retinanet import RetinaHead, RetinaNet
from samebox.record.preprocess import Preprocess, Resize
from samebox.record.spec import Spec

NORMALIZE = {"mean": [127.0] * 3, "std": [60.0] * 3, "channel_order": "BGR"}
SPEC = Spec("tiny", ("a", "b"), Preprocess(Resize((64, 64))), NORMALIZE, "0" * 64)


def tiny_network() -> Deployable:
    torch.manual_seed(0)
    head = RetinaHead(8, 8, 1, 2, Anchors([4, 8], [1.0], [4.0]))
    backbone = ResNet(18, base_channels=8, out_stages=(0,))
    network = RetinaNet(backbone, FPN([8], 8, 2, "conv_on_input"), head, GreedyNMS(0.5, 10), 20, 0.05)
    return Deployable(Normalize(**NORMALIZE), network).eval()


if __name__ == "__main__":
    export(tiny_network(), SPEC, sys.argv[1], opset=16, lowering="portable")
