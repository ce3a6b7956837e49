"""Tiny R-CNNs and RetinaNet with the conventions of detectron2 and maskrcnn-benchmark."""

import pytest
import torch
from graph_checks import (
    assert_engine_builds,
    assert_onnx_matches,
    enlarge_weights,
    exported,
    padded_noise,
    run,
)
from tiny_rcnn import CLASSES, COUNT, STDS, STRIDES, WIDTH

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


def mask_rcnn(inclusive):
    """With maskrcnn-benchmark's conventions if boxes are `inclusive`, else with detectron2's."""
    torch.manual_seed(0)
    align = {"samples": 2, "aligned": False, "inclusive": True} if inclusive else {}
    box_options = {"inclusive": inclusive, "shrink_limit": False}
    anchor_class = DetectronAnchors if inclusive else Anchors
    rpn_nms = GreedyNMS(0.7, 50, inclusive=inclusive)
    anchors = anchor_class([*STRIDES, 64], RATIOS, [8])
    rpn = RPNHead(WIDTH, WIDTH, anchors, rpn_nms, 60, not inclusive, False)
    box_head = BoxHead(RoIAlign(7, STRIDES, **align), WIDTH, 16, CLASSES, STDS[0], **box_options)
    mask_head = FCNMaskHead(RoIAlign(14, STRIDES, **align), WIDTH, WIDTH, 1, CLASSES)
    nms = GreedyNMS(0.5, COUNT, inclusive=inclusive)
    roi_head = RoIHead(box_head, nms, 0.05, mask_head, drop_empty=not inclusive)
    neck = FPN([8, 16, 32, 64], WIDTH, 5, "pool")
    backbone = ResNet(18, base_channels=8, norm_eps=0.0 if inclusive else 1e-5)
    return enlarge_weights(RCNN(backbone, neck, rpn, roi_head), "rpn_cls", "fc_cls", "fc_reg", "conv_logits")


def retinanet():
    """detectron2's RetinaNet, which clips boxes only after the NMS."""
    torch.manual_seed(0)
    anchors = Anchors([8, 16], RATIOS, [4.0, 6.0], ratios_inner=True)
    head = RetinaHead(8, 8, 1, CLASSES, anchors, shrink_limit=False)
    neck = FPN([16], 8, 2, "conv_on_input")
    backbone = ResNet(18, base_channels=8, out_stages=[1])
    network = RetinaNet(backbone, neck, head, GreedyNMS(0.5, COUNT), 60, 0.05, clip_last=True)
    return enlarge_weights(network, "retina_cls", "retina_reg")


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
    """detectron2's R-CNN is covered in ONNX Runtime by a reference case."""
    return exported(NETWORKS[request.param]())


@pytest.mark.parametrize("opset", [11, 18, newest_opset()])
def test_onnxruntime_matches_pytorch(graph, opset):
    images = padded_noise(SIZES, 128, 128) * 60 + 120
    wide = padded_noise([[90, 200]], 96, 224) * 60 + 120
    assert_onnx_matches(graph, opset, [(images, SIZES), (wide, [[90, 200]])], atol=2e-3, rtol=1e-4)


def test_an_image_gives_the_same_results_in_a_batch_and_alone(network):
    images = padded_noise(SIZES, 128, 128)
    batched = run(network, images, SIZES)
    assert (batched["scores"] > 0).any(1).all()
    for index, size in enumerate(SIZES):
        alone = run(network, images[index : index + 1], [size])
        for name, value in alone.items():
            torch.testing.assert_close(value[0], batched[name][index], rtol=1e-4, atol=1e-3)


def test_boxes_lie_within_their_image_and_rows_are_compacted(network):
    outputs = run(network, padded_noise(SIZES, 128, 128), SIZES)
    for boxes, scores, (height, width) in zip(outputs["boxes"], outputs["scores"], SIZES, strict=True):
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height])).all()
        assert (scores.diff() <= 0).all()
        assert not boxes[scores == 0].any()


def test_an_engine_builds_for_dynamic_batch_and_shape(graph, tmp_path):
    assert_engine_builds(graph, tmp_path)
