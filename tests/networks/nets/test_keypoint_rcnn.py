"""The keypoint head: its layers, in a second stage, names of other frameworks, and the exported graph."""

import pytest
import torch
import torch.nn.functional as F
from graph_checks import assert_engine_builds, assert_onnx_matches, exported, padded_noise, run
from tiny_rcnn import (
    COUNT,
    POINTS,
    REGIONS,
    SIZES,
    STRIDES,
    WIDTH,
    keypoint_head,
    keypoint_rcnn,
    pyramid,
)
from torch import nn

from samebox.checkpoints.weights import rename_parameters
from samebox.graph.opset import newest_opset
from samebox.networks.blocks.nms import GreedyNMS
from samebox.networks.blocks.roi_align import RoIAlign
from samebox.networks.nets.contract import KEYPOINTS
from samebox.networks.nets.keypoint_rcnn import RENAMES, KeypointHead
from samebox.networks.nets.rcnn import RoIHead

MIXED = [[96, 128], [70, 128], [128, 61]]


@pytest.fixture(scope="module")
def network():
    return keypoint_rcnn()


@pytest.fixture(scope="module")
def images():
    return padded_noise(MIXED, 128, 128)


@pytest.fixture(scope="module")
def outputs(network, images):
    return run(network, images, MIXED)


def test_a_head_is_convolutions_a_transposed_convolution_and_upsampling():
    torch.manual_seed(5)
    head, maps = keypoint_head(), pyramid()
    with torch.inference_mode():
        logits = head(maps, REGIONS)
        x = head.roi_align(maps, REGIONS).flatten(0, 1)
        for conv in head.convs:
            x = F.conv2d(x, conv.conv.weight, conv.conv.bias, padding=1).clamp(min=0)
        x = F.conv_transpose2d(x, head.score_lowres.weight, head.score_lowres.bias, stride=2, padding=1)
    assert x.shape == (4, POINTS, 28, 28)
    assert logits.shape == (2, 2, POINTS, 56, 56)
    torch.testing.assert_close(logits.flatten(0, 1), upsampled(upsampled(x).mT).mT)


def upsampled(x):
    """[...,W] → [...,2W] by linear interpolation; each value lies a quarter cell from the nearest of x."""
    left = torch.cat([x[..., :1], x[..., :-1]], -1)
    right = torch.cat([x[..., 1:], x[..., -1:]], -1)
    return torch.stack([0.75 * x + 0.25 * left, 0.75 * x + 0.25 * right], -1).flatten(-2)


def test_output_shapes_and_ranges(network, outputs):
    assert network.outputs == KEYPOINTS == tuple(outputs)
    assert outputs["keypoints"].shape == (3, COUNT, POINTS, 56, 56)
    is_detection = outputs["scores"] > 0
    assert is_detection.sum() > 3
    assert outputs["keypoints"][is_detection].flatten(2).std(2).min() > 0


def test_padding_rows_are_zero(network, images, outputs):
    keypoints = run(network, images, [MIXED[0], [0, 0], MIXED[2]])["keypoints"]
    assert not keypoints[1].any()
    torch.testing.assert_close(keypoints[[0, 2]], outputs["keypoints"][[0, 2]])


@pytest.mark.parametrize("index", range(3))
def test_an_image_gives_the_same_results_in_a_batch_and_alone(network, images, outputs, index):
    alone = run(network, images[index : index + 1], MIXED[index : index + 1])
    assert (alone["scores"] > 0).sum() > 3
    for name, value in alone.items():
        torch.testing.assert_close(outputs[name][index : index + 1], value, rtol=1e-4, atol=1e-4)


def test_a_second_stage_may_have_masks_and_keypoints():
    head = RoIHead(nn.Identity(), GreedyNMS(0.5, 1), 0.05, nn.Identity(), keypoint_head=nn.Identity())
    assert head.outputs == ("boxes", "scores", "labels", "masks", "keypoints")


FOREIGN_NAMES = {
    "detectron2": ("roi_heads.keypoint_head.conv_fcn{}.{}", "roi_heads.keypoint_head.score_lowres.{}"),
    "maskrcnn-benchmark": (
        "roi_heads.keypoint.feature_extractor.conv_fcn{}.{}",
        "roi_heads.keypoint.predictor.kps_score_lowres.{}",
    ),
    "maskrcnn-benchmark, saved in parallel training": (
        "module.roi_heads.keypoint.feature_extractor.conv_fcn{}.{}",
        "module.roi_heads.keypoint.predictor.kps_score_lowres.{}",
    ),
}


@pytest.mark.parametrize("framework", FOREIGN_NAMES)
def test_names_of_other_frameworks_are_renamed(framework):
    convs, scores = FOREIGN_NAMES[framework]
    parts = "weight", "bias"
    foreign = [convs.format(i, part) for i in range(1, 9) for part in parts]
    foreign += [scores.format(part) for part in parts]
    assert_names_of_the_head(rename_parameters(dict.fromkeys(foreign, torch.zeros(1)), RENAMES))


def test_names_of_detectrons_blobs_are_renamed(network):
    """The fixed weights of its upsampling layer and the state of its solver are dropped."""
    blobs = [f"conv_fcn{i}_{part}" for i in range(1, 9) for part in "wb"]
    blobs += [f"kps_score_lowres_{part}" for part in "wb"]
    dropped = ["kps_score_w", "kps_score_b", "conv_fcn1_w_momentum"]
    assert_names_of_the_head(
        rename_parameters(dict.fromkeys([*blobs, *dropped], torch.zeros(1)), network.renames)
    )


def assert_names_of_the_head(state):
    head = KeypointHead(RoIAlign(14, STRIDES), 4, 4, convs=8, num_keypoints=17)
    assert set(state) == {f"roi_head.keypoint_head.{name}" for name in head.state_dict()}


class Proposals(nn.Module):
    """A box head that returns its proposals unchanged, with ascending scores."""

    def forward(self, maps, boxes, sizes):
        scores = torch.arange(1, boxes.shape[1] + 1) / (boxes.shape[1] + 1)
        return boxes[:, :, None], scores.expand(boxes.shape[:2])[..., None]


class SecondStage(nn.Module):
    """A second stage on average-pooled images, with three proposals per image on different levels."""

    outputs = KEYPOINTS

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 1)
        self.roi_head = RoIHead(Proposals(), GreedyNMS(0.5, 4), 0.05, keypoint_head=keypoint_head())
        self.relative_proposals = nn.Parameter(
            torch.tensor([[0.1, 0.1, 0.9, 0.95], [0.3, 0.2, 0.45, 0.5], [0.7, 0.6, 1.0, 1.0]])
        )

    def forward(self, images, sizes):
        maps = [F.avg_pool2d(self.stem(images), stride) for stride in STRIDES]
        proposals = self.relative_proposals * sizes.flip(1).repeat(1, 2)[:, None]
        return self.roi_head(maps, proposals, torch.ones_like(proposals[..., 0]), sizes)


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(6)
    return exported(SecondStage())


@pytest.mark.parametrize("opset", [11, 18, newest_opset()])
def test_onnxruntime_matches_pytorch(graph, opset):
    batches = [(torch.rand(1, 3, 96, 160) * 255, [[90, 160]]), (padded_noise(MIXED, 128, 128) * 60, MIXED)]
    assert_onnx_matches(graph, opset, batches, atol=1e-4, rtol=1e-4)


def test_an_engine_builds_for_dynamic_batch_and_shape(graph, tmp_path):
    assert_engine_builds(graph, tmp_path)


def test_regions_of_two_images_are_independent():
    torch.manual_seed(7)
    head, maps = keypoint_head(), pyramid()
    with torch.inference_mode():
        batched = head(maps, REGIONS)
        for image in range(len(SIZES)):
            alone = head([level[image : image + 1] for level in maps], REGIONS[image : image + 1])
            torch.testing.assert_close(batched[image : image + 1], alone, rtol=1e-4, atol=1e-5)
