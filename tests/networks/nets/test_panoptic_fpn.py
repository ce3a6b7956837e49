"""Panoptic FPN: its semantic head against the definition, under detectron2's names, as a graph."""

import pytest
import torch
import torch.nn.functional as F
from alike import answered, assert_alike, assert_builds, exported, mixed
from tiny_rcnn import CANVAS, FOUND, STRIDES, STUFF, WIDTH, panoptic_fpn, pyramid, semantic_head
from torch import nn

from samebox.checkpoints.weights import rename_parameters
from samebox.graph.opset import newest_opset
from samebox.networks.nets.contract import PANOPTIC
from samebox.networks.nets.panoptic_fpn import RENAMES

MIXED = [[96, 128], [70, 128], [128, 61]]
# Blocks of detectron2's levels, by their place among the level's layers
LAYERS = {2: (0,), 3: (0,), 4: (0, 2), 5: (0, 2, 4)}


@pytest.fixture(scope="module")
def network():
    return panoptic_fpn()


@pytest.fixture(scope="module")
def answer(network):
    return answered(network, mixed(MIXED, 128, 128), MIXED)


def test_a_head_is_the_sum_of_levels_each_enlarged_after_every_block():
    torch.manual_seed(3)
    head, maps = semantic_head(), pyramid()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.3)
    state, total = head.state_dict(), 0
    for level, blocks in enumerate((1, 1, 2, 3)):
        x = maps[level]
        for block in range(blocks):
            name = f"conv_upsample_layers.{level}.conv.{block}"
            x = F.conv2d(x, state[f"{name}.conv.weight"], padding=1)
            x = F.group_norm(x, 4, state[f"{name}.gn.weight"], state[f"{name}.gn.bias"]).clamp(min=0)
            if level:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        total = total + x
    expected = F.conv2d(total, state["conv_logits.weight"], state["conv_logits.bias"])
    with torch.inference_mode():
        found = head(maps)
    assert found.shape == (2, 1 + STUFF, CANVAS // 4, CANVAS // 4)
    torch.testing.assert_close(found, expected)


def test_a_level_may_be_other_than_half_the_finer_one():
    maps = [torch.randn(1, WIDTH, -(-75 // s), -(-90 // s)) for s in STRIDES]
    assert semantic_head()(maps).shape == (1, 1 + STUFF, 19, 23)


def test_form_of_the_answer(network, answer):
    assert network.outputs == PANOPTIC == tuple(answer)
    assert answer["masks"].shape == (3, FOUND, 28, 28)
    assert answer["semantics"].shape == (3, 1 + STUFF, 32, 32)
    assert (answer["scores"] > 0).sum() > 3


def test_an_image_of_a_batch_gives_what_it_gives_alone(network, answer):
    images = mixed(MIXED, 128, 128)
    for index in range(len(MIXED)):
        alone = answered(network, images[index : index + 1], MIXED[index : index + 1])
        torch.testing.assert_close(
            answer["semantics"][index : index + 1], alone["semantics"], rtol=1e-4, atol=1e-4
        )


def test_the_heads_maps_are_given_with_those_of_both_stages(network, answer):
    with torch.inference_mode():
        heads = network.heads(mixed(MIXED, 128, 128), torch.tensor(MIXED))
    assert tuple(heads) == network.head_outputs
    assert network.head_outputs[-2:] == ("boxes", "semantics")
    torch.testing.assert_close(heads["semantics"], answer["semantics"])


def test_names_of_detectron2():
    ours = {}
    for level, layers in LAYERS.items():
        for block, layer in enumerate(layers):
            theirs = f"sem_seg_head.p{level}.{layer}"
            name = f"semantic_head.conv_upsample_layers.{level - 2}.conv.{block}"
            ours[f"{theirs}.weight"] = f"{name}.conv.weight"
            ours |= {f"{theirs}.norm.{part}": f"{name}.gn.{part}" for part in ("weight", "bias")}
    for part in ("weight", "bias"):
        ours[f"sem_seg_head.predictor.{part}"] = f"semantic_head.conv_logits.{part}"
    assert rename_parameters(ours, RENAMES) == {name: name for name in ours.values()}
    assert set(ours.values()) == {f"semantic_head.{name}" for name in semantic_head().state_dict()}


class Semantics(nn.Module):
    """The head on maps of the image's pixels, with what a graph of detections has besides."""

    outputs = ("scores", "semantics")

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 1)
        self.semantic_head = semantic_head()

    def forward(self, images, sizes):
        maps = [F.avg_pool2d(self.stem(images), stride) for stride in STRIDES]
        return {"scores": sizes.float(), "semantics": self.semantic_head(maps)}


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(6)
    return exported(Semantics())


@pytest.mark.parametrize("opset", [11, 18, newest_opset()])
def test_onnxruntime_finds_what_pytorch_finds(graph, opset):
    batches = [(torch.rand(1, 3, 96, 160) * 255, [[90, 160]]), (mixed(MIXED, 128, 128) * 60, MIXED)]
    assert_alike(graph, opset, batches, atol=1e-4, rtol=1e-4)


def test_an_engine_of_any_batch_up_to_four_and_any_shape(graph, tmp_path):
    assert_builds(graph, tmp_path)
