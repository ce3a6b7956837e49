"""Panoptic FPN: the layers of its semantic head, detectron2's names, and the exported graph."""

import pytest
import torch
import torch.nn.functional as F
from graph_checks import assert_engine_builds, assert_onnx_matches, exported, padded_noise, run
from tiny_rcnn import CANVAS, COUNT, STRIDES, STUFF, WIDTH, panoptic_fpn, pyramid, semantic_head
from torch import nn

from samebox.checkpoints.weights import rename_parameters
from samebox.graph.opset import newest_opset
from samebox.networks.nets.contract import PANOPTIC
from samebox.networks.nets.panoptic_fpn import RENAMES

MIXED = [[96, 128], [70, 128], [128, 61]]
# For each level, the indices of the blocks in detectron2's Sequential
LAYERS = {2: (0,), 3: (0,), 4: (0, 2), 5: (0, 2, 4)}


@pytest.fixture(scope="module")
def network():
    return panoptic_fpn()


@pytest.fixture(scope="module")
def outputs(network):
    return run(network, padded_noise(MIXED, 128, 128), MIXED)


def test_a_head_sums_levels_that_are_upsampled_after_every_block():
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
        logits = head(maps)
    assert logits.shape == (2, 1 + STUFF, CANVAS // 4, CANVAS // 4)
    torch.testing.assert_close(logits, expected)


def test_a_level_need_not_be_half_the_size_of_the_finer_one():
    maps = [torch.randn(1, WIDTH, -(-75 // s), -(-90 // s)) for s in STRIDES]
    assert semantic_head()(maps).shape == (1, 1 + STUFF, 19, 23)


def test_output_shapes_and_ranges(network, outputs):
    assert network.outputs == PANOPTIC == tuple(outputs)
    assert outputs["masks"].shape == (3, COUNT, 28, 28)
    assert outputs["semantics"].shape == (3, 1 + STUFF, 32, 32)
    assert (outputs["scores"] > 0).sum() > 3


def test_an_image_gives_the_same_results_in_a_batch_and_alone(network, outputs):
    images = padded_noise(MIXED, 128, 128)
    for index in range(len(MIXED)):
        alone = run(network, images[index : index + 1], MIXED[index : index + 1])
        torch.testing.assert_close(
            outputs["semantics"][index : index + 1], alone["semantics"], rtol=1e-4, atol=1e-4
        )


def test_head_outputs_include_the_semantics(network, outputs):
    with torch.inference_mode():
        heads = network.heads(padded_noise(MIXED, 128, 128), torch.tensor(MIXED))
    assert tuple(heads) == network.head_outputs
    assert network.head_outputs[-2:] == ("boxes", "semantics")
    torch.testing.assert_close(heads["semantics"], outputs["semantics"])


def test_names_of_detectron2_are_renamed():
    names = {}
    for level, layers in LAYERS.items():
        for block, layer in enumerate(layers):
            foreign = f"sem_seg_head.p{level}.{layer}"
            name = f"semantic_head.conv_upsample_layers.{level - 2}.conv.{block}"
            names[f"{foreign}.weight"] = f"{name}.conv.weight"
            names |= {f"{foreign}.norm.{part}": f"{name}.gn.{part}" for part in ("weight", "bias")}
    for part in ("weight", "bias"):
        names[f"sem_seg_head.predictor.{part}"] = f"semantic_head.conv_logits.{part}"
    assert rename_parameters(names, RENAMES) == {name: name for name in names.values()}
    assert set(names.values()) == {f"semantic_head.{name}" for name in semantic_head().state_dict()}


class Semantics(nn.Module):
    """The head on average-pooled images. The sizes stand in for scores, which the checks require."""

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
def test_onnxruntime_matches_pytorch(graph, opset):
    batches = [(torch.rand(1, 3, 96, 160) * 255, [[90, 160]]), (padded_noise(MIXED, 128, 128) * 60, MIXED)]
    assert_onnx_matches(graph, opset, batches, atol=1e-4, rtol=1e-4)


def test_an_engine_builds_for_dynamic_batch_and_shape(graph, tmp_path):
    assert_engine_builds(graph, tmp_path)
