"""Keypoint heads: against their definition, in a second stage, under other frameworks' names, as a graph."""

import pytest
import torch
import torch.nn.functional as F
from alike import assert_alike, assert_builds, exported, mixed
from tiny_rcnn import (
    FOUND,
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


def answered(network, images, sizes):
    with torch.inference_mode():
        return network(images, torch.tensor(sizes))


@pytest.fixture(scope="module")
def network():
    return keypoint_rcnn()


@pytest.fixture(scope="module")
def images():
    return mixed(MIXED, 128, 128)


@pytest.fixture(scope="module")
def answer(network, images):
    return answered(network, images, MIXED)


def test_a_head_is_convolutions_a_deconvolution_and_an_enlargement():
    torch.manual_seed(5)
    head, maps = keypoint_head(), pyramid()
    with torch.inference_mode():
        found = head(maps, REGIONS)
        x = head.roi_align(maps, REGIONS).flatten(0, 1)
        for conv in head.convs:
            x = F.conv2d(x, conv.conv.weight, conv.conv.bias, padding=1).clamp(min=0)
        x = F.conv_transpose2d(x, head.score_lowres.weight, head.score_lowres.bias, stride=2, padding=1)
    assert x.shape == (4, POINTS, 28, 28)
    assert found.shape == (2, 2, POINTS, 56, 56)
    torch.testing.assert_close(found.flatten(0, 1), enlarged(enlarged(x).mT).mT)


def enlarged(x):
    """Twice as wide: each value between two of [...,W], a quarter of the way from the nearer."""
    left = torch.cat([x[..., :1], x[..., :-1]], -1)
    right = torch.cat([x[..., 1:], x[..., -1:]], -1)
    return torch.stack([0.75 * x + 0.25 * left, 0.75 * x + 0.25 * right], -1).flatten(-2)


def test_form_of_the_answer(network, answer):
    assert network.outputs == KEYPOINTS == tuple(answer)
    assert answer["keypoints"].shape == (3, FOUND, POINTS, 56, 56)
    taken = answer["scores"] > 0
    assert taken.sum() > 3
    assert answer["keypoints"][taken].flatten(2).std(2).min() > 0


def test_rows_to_spare_are_zero(network, images, answer):
    found = answered(network, images, [MIXED[0], [0, 0], MIXED[2]])["keypoints"]
    assert not found[1].any()
    torch.testing.assert_close(found[[0, 2]], answer["keypoints"][[0, 2]])


@pytest.mark.parametrize("index", range(3))
def test_an_image_of_a_batch_gives_what_it_gives_alone(network, images, answer, index):
    alone = answered(network, images[index : index + 1], MIXED[index : index + 1])
    assert (alone["scores"] > 0).sum() > 3
    for name, value in alone.items():
        torch.testing.assert_close(answer[name][index : index + 1], value, rtol=1e-4, atol=1e-4)


def test_a_second_stage_may_have_masks_and_keypoints():
    head = RoIHead(nn.Identity(), GreedyNMS(0.5, 1), 0.05, nn.Identity(), keypoint_head=nn.Identity())
    assert head.outputs == ("boxes", "scores", "labels", "masks", "keypoints")


NAMES = {
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


@pytest.mark.parametrize("framework", NAMES)
def test_names_of_other_frameworks(framework):
    convs, scores = NAMES[framework]
    parts = "weight", "bias"
    theirs = [convs.format(i, part) for i in range(1, 9) for part in parts]
    theirs += [scores.format(part) for part in parts]
    assert_the_heads_own(rename_parameters(dict.fromkeys(theirs, torch.zeros(1)), RENAMES))


def test_names_of_detectrons_blobs(network):
    """With the layer of fixed weights that enlarges its maps, and what the solver left."""
    theirs = [f"conv_fcn{i}_{part}" for i in range(1, 9) for part in "wb"]
    theirs += [f"kps_score_lowres_{part}" for part in "wb"]
    left = ["kps_score_w", "kps_score_b", "conv_fcn1_w_momentum"]
    assert_the_heads_own(rename_parameters(dict.fromkeys([*theirs, *left], torch.zeros(1)), network.renames))


def assert_the_heads_own(state):
    head = KeypointHead(RoIAlign(14, STRIDES), 4, 4, convs=8, num_keypoints=17)
    assert set(state) == {f"roi_head.keypoint_head.{name}" for name in head.state_dict()}


class Proposals(nn.Module):
    """A box head that leaves its proposals as they are; the later ones are surer."""

    def forward(self, maps, boxes, sizes):
        scores = torch.arange(1, boxes.shape[1] + 1) / (boxes.shape[1] + 1)
        return boxes[:, :, None], scores.expand(boxes.shape[:2])[..., None]


class SecondStage(nn.Module):
    """Keypoints of three places in each image, of sizes that suit several levels, on maps of its pixels."""

    outputs = KEYPOINTS

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 1)
        self.roi_head = RoIHead(Proposals(), GreedyNMS(0.5, 4), 0.05, keypoint_head=keypoint_head())
        self.places = nn.Parameter(
            torch.tensor([[0.1, 0.1, 0.9, 0.95], [0.3, 0.2, 0.45, 0.5], [0.7, 0.6, 1.0, 1.0]])
        )

    def forward(self, images, sizes):
        maps = [F.avg_pool2d(self.stem(images), stride) for stride in STRIDES]
        proposals = self.places * sizes.flip(1).repeat(1, 2)[:, None]
        return self.roi_head(maps, proposals, torch.ones_like(proposals[..., 0]), sizes)


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(6)
    return exported(SecondStage())


@pytest.mark.parametrize("opset", [11, 18, newest_opset()])
def test_onnxruntime_finds_what_pytorch_finds(graph, opset):
    batches = [(torch.rand(1, 3, 96, 160) * 255, [[90, 160]]), (mixed(MIXED, 128, 128) * 60, MIXED)]
    assert_alike(graph, opset, batches, atol=1e-4, rtol=1e-4)


def test_an_engine_of_any_batch_up_to_four_and_any_shape(graph, tmp_path):
    assert_builds(graph, tmp_path)


def test_regions_of_two_images_are_apart():
    """The head's rows are an image's, in its order."""
    torch.manual_seed(7)
    head, maps = keypoint_head(), pyramid()
    with torch.inference_mode():
        together = head(maps, REGIONS)
        for image in range(len(SIZES)):
            alone = head([level[image : image + 1] for level in maps], REGIONS[image : image + 1])
            torch.testing.assert_close(together[image : image + 1], alone, rtol=1e-4, atol=1e-5)
