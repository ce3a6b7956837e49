"""R-CNNs and RetinaNet with the conventions of detectron2 and maskrcnn-benchmark, small."""

import pytest
import torch
from alike import answered, assert_alike, assert_builds, exported, mixed
from tiny_rcnn import CLASSES, FOUND, STDS, STRIDES, WIDTH

from samebox.graph.opset import newest_opset
from samebox.networks.blocks.anchors import Anchors, DetectronAnchors
from samebox.networks.blocks.fpn import FPN
from samebox.networks.blocks.nms import GreedyNMS
from samebox.networks.blocks.resnet import ResNet
from samebox.networks.blocks.roi_align import RoIAlign
from samebox.networks.nets.rcnn import RCNN, BoxHead, FCNMaskHead, RoIHead
from samebox.networks.nets.retinanet import RetinaHead, RetinaNet
from samebox.networks.nets.rpn import RPNHead

RATIOS = [0.5, 1.0, 2.0]
SIZES = [[128, 96], [70, 128]]


def apart(network, *parts):
    """The network with the weights of some parts drawn apart, so that its scores differ."""
    for name, parameter in network.named_parameters():
        if any(part in name for part in parts):
            parameter.data *= 8
    return network.eval()


def mask_rcnn(inclusive):
    """maskrcnn-benchmark's conventions where boxes are `inclusive`, else detectron2's."""
    torch.manual_seed(0)
    align = {"samples": 2, "aligned": False, "inclusive": True} if inclusive else {}
    measured = {"inclusive": inclusive, "shrink_limit": False}
    kind = DetectronAnchors if inclusive else Anchors
    rpn_nms = GreedyNMS(0.7, 50, inclusive=inclusive)
    rpn = RPNHead(WIDTH, WIDTH, kind([*STRIDES, 64], RATIOS, [8]), rpn_nms, 60, not inclusive, False)
    box_head = BoxHead(RoIAlign(7, STRIDES, **align), WIDTH, 16, CLASSES, STDS[0], **measured)
    mask_head = FCNMaskHead(RoIAlign(14, STRIDES, **align), WIDTH, WIDTH, 1, CLASSES)
    nms = GreedyNMS(0.5, FOUND, inclusive=inclusive)
    roi_head = RoIHead(box_head, nms, 0.05, mask_head, drop_empty=not inclusive)
    neck = FPN([8, 16, 32, 64], WIDTH, 5, "pool")
    backbone = ResNet(18, base_channels=8, norm_eps=0.0 if inclusive else 1e-5)
    return apart(RCNN(backbone, neck, rpn, roi_head), "rpn_cls", "fc_cls", "fc_reg", "conv_logits")


def retinanet():
    """detectron2's, whose boxes may leave the image until the last."""
    torch.manual_seed(0)
    anchors = Anchors([8, 16], RATIOS, [4.0, 6.0], ratios_inner=True)
    head = RetinaHead(8, 8, 1, CLASSES, anchors, shrink_limit=False)
    neck = FPN([16], 8, 2, "conv_on_input")
    backbone = ResNet(18, base_channels=8, out_stages=[1])
    network = RetinaNet(backbone, neck, head, GreedyNMS(0.5, FOUND), 60, 0.05, clip_last=True)
    return apart(network, "retina_cls", "retina_reg")


NETWORKS = {
    "detectron2 Mask R-CNN": lambda: mask_rcnn(inclusive=False),
    "maskrcnn-benchmark Mask R-CNN": lambda: mask_rcnn(inclusive=True),
    "detectron2 RetinaNet": retinanet,
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return NETWORKS[request.param]()


@pytest.fixture(scope="module", params=["maskrcnn-benchmark Mask R-CNN", "detectron2 RetinaNet"])
def graph(request):
    """Of detectron2's R-CNN there is a reference case in ONNX Runtime."""
    return exported(NETWORKS[request.param]())


@pytest.mark.parametrize("opset", [11, 18, newest_opset()])
def test_onnxruntime_gives_what_pytorch_gives(graph, opset):
    images = mixed(SIZES, 128, 128) * 60 + 120
    wide = mixed([[90, 200]], 96, 224) * 60 + 120
    assert_alike(graph, opset, [(images, SIZES), (wide, [[90, 200]])], atol=2e-3, rtol=1e-4)


def test_an_image_of_a_batch_gives_what_it_gives_alone(network):
    images = mixed(SIZES, 128, 128)
    together = answered(network, images, SIZES)
    assert (together["scores"] > 0).any(1).all()
    for index, size in enumerate(SIZES):
        alone = answered(network, images[index : index + 1], [size])
        for name, value in alone.items():
            torch.testing.assert_close(value[0], together[name][index], rtol=1e-4, atol=1e-3)


def test_boxes_lie_within_their_image_and_rows_close_ranks(network):
    found = answered(network, mixed(SIZES, 128, 128), SIZES)
    for boxes, scores, (height, width) in zip(found["boxes"], found["scores"], SIZES, strict=True):
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height])).all()
        assert (scores.diff() <= 0).all()
        assert not boxes[scores == 0].any()


def test_an_engine_of_any_batch_up_to_four_and_any_shape(graph, tmp_path):
    assert_builds(graph, tmp_path)
