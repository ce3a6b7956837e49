import numpy as np
import pytest
import torch
import torch.nn.functional as F
from graph_checks import assert_engine_builds, assert_onnx_matches, exported, padded_noise, run

from samebox.graph.opset import newest_opset
from samebox.networks.blocks.fpn import FPN
from samebox.networks.blocks.resnet import ResNet
from samebox.networks.nets.contract import SEGMENTS
from samebox.networks.nets.solov2 import (
    MaskFeatureHead,
    SOLOv2,
    SOLOv2Head,
    matrix_nms,
    points_nms,
    with_coordinates,
)

CLASSES, WIDTH, GRIDS, STRIDES = 3, 8, (10, 8, 6, 5, 4), (8, 8, 16, 32, 32)
SIZES = [[96, 128], [70, 128], [96, 90]]
THRESHOLD, FILTER, SIGMA = 0.1, 0.05, 2.0


def tiny(nms_pre=600):
    torch.manual_seed(0)
    features = MaskFeatureHead(WIDTH, WIDTH, 4, levels=4, norm_groups=4)
    network = SOLOv2(
        ResNet(18, base_channels=8),
        FPN([8, 16, 32, 64], WIDTH, 5, "pool"),
        SOLOv2Head(WIDTH, WIDTH, 2, CLASSES, GRIDS, 4, features, 4),
        STRIDES,
        nms_pre,
        20,
        THRESHOLD,
        FILTER,
        SIGMA,
    )
    # so that scores and masks differ from cell to cell
    network.mask_head.conv_cls.weight.data *= 6
    network.mask_head.conv_cls.bias.data -= 1.5
    network.mask_head.conv_kernel.weight.data *= 6
    return network.eval()


@pytest.fixture(scope="module")
def network():
    return tiny()


@pytest.fixture(scope="module")
def images():
    return padded_noise(SIZES, 96, 128)


@pytest.fixture(scope="module")
def outputs(network, images):
    return run(network, images, SIZES)


def detect(heads, image):
    """The detections of one image, step by step: score, label and mask, sorted by score."""
    features = heads["mask_features"][image]
    candidates = []
    for grid, stride in zip(GRIDS, STRIDES, strict=True):
        scores = heads[f"logits_{grid}"][image].sigmoid()
        for label, row, column in np.ndindex(*scores.shape):
            window = scores[label, max(row - 1, 0) : row + 1, max(column - 1, 0) : column + 1]
            score = scores[label, row, column]
            if score < window.max() or score <= THRESHOLD:
                continue
            kernel = heads[f"kernels_{grid}"][image, :, row, column]
            mask = (kernel[:, None, None] * features).sum(0).sigmoid()
            binary = mask > 0.5
            if binary.sum() > stride:
                candidates.append((float(score * mask[binary].mean()), label, mask))
    candidates.sort(key=lambda candidate: -candidate[0])
    decayed = []
    for index, (score, label, mask) in enumerate(candidates):
        decay = 1.0
        for other in range(index):
            if candidates[other][1] == label:
                rivals = [candidates[i][2] for i in range(other) if candidates[i][1] == label]
                largest = max((iou(candidates[other][2], rival) for rival in rivals), default=0.0)
                overlap = iou(candidates[other][2], mask)
                decay = min(decay, np.exp(-SIGMA * overlap**2) / np.exp(-SIGMA * largest**2))
        decayed.append((float(score * decay), label, mask))
    kept = [detection for detection in decayed if detection[0] >= FILTER]
    return sorted(kept, key=lambda detection: -detection[0])[:20]


def iou(first, second):
    a, b = first > 0.5, second > 0.5
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("image", range(3))
def test_detections_are_those_selected_step_by_step(network, images, outputs, image):
    with torch.inference_mode():
        heads = network.heads(images, torch.tensor(SIZES))
        expected = detect(heads, image)
    assert len(expected) > 3
    scores, labels, masks = (outputs[name][image] for name in SEGMENTS)
    torch.testing.assert_close(
        scores[: len(expected)], torch.tensor([detection[0] for detection in expected])
    )
    assert labels[: len(expected)].tolist() == [detection[1] for detection in expected]
    torch.testing.assert_close(masks[: len(expected)], torch.stack([detection[2] for detection in expected]))
    assert not scores[len(expected) :].any()
    assert not masks[len(expected) :].any()


def test_output_shapes_and_ranges(network, images, outputs):
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "scores": (3, 20),
        "labels": (3, 20),
        "masks": (3, 20, 24, 32),
    }
    assert network.outputs == SEGMENTS
    with torch.inference_mode():
        heads = network.heads(images, torch.tensor(SIZES))
    assert tuple(heads) == network.head_outputs
    assert heads["kernels_6"].shape == (3, 4, 6, 6)


@pytest.mark.parametrize("index", range(3))
def test_an_image_gives_the_same_results_in_a_batch_and_alone(network, images, outputs, index):
    alone = run(network, images[index : index + 1], SIZES[index : index + 1])
    for name, value in outputs.items():
        torch.testing.assert_close(value[index : index + 1], alone[name], rtol=1e-4, atol=1e-4)


def test_an_image_without_objects_has_no_detections(images):
    network = tiny()
    network.mask_head.conv_cls.bias.data -= 100
    outputs = run(network, images, SIZES)
    assert not any(value.any() for value in outputs.values())


def test_points_nms_keeps_cells_without_a_higher_left_or_upper_neighbour():
    scores = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(2)).round(decimals=1)
    expected = torch.zeros_like(scores)
    for position in np.ndindex(*scores.shape):
        image, label, row, column = position
        window = scores[image, label, max(row - 1, 0) : row + 1, max(column - 1, 0) : column + 1]
        expected[position] = scores[position] if scores[position] == window.max() else 0
    assert points_nms(scores).equal(expected)


def test_coordinates_range_from_minus_1_to_1_across_and_down():
    x, y = with_coordinates(torch.zeros(1, 2, 3, 5))[0, 2:]
    assert x.tolist() == [[-1, -0.5, 0, 0.5, 1]] * 3
    assert y.tolist() == [[-1] * 5, [0] * 5, [1] * 5]


def test_a_single_cell_has_the_coordinate_minus_1():
    x, y = with_coordinates(torch.zeros(1, 2, 1, 3))[0, 2:]
    assert x.tolist() == [[-1, 0, 1]]
    assert y.tolist() == [[-1, -1, -1]]


@pytest.mark.parametrize("canvas", [(32, 128), (128, 32)])
def test_a_canvas_whose_coarsest_map_is_one_cell_high_or_wide(network, graph, canvas):
    images = padded_noise([canvas], *canvas)
    assert (run(network, images, [canvas])["scores"] > 0).any()
    assert_onnx_matches(graph, 18, [(images, [list(canvas)])], atol=1e-3)


def test_only_masks_of_the_same_class_and_a_higher_score_decay_a_score():
    mask = torch.ones(1, 3, 4)
    scores, labels = torch.tensor([[0.5, 0.9, 0.8]]), torch.tensor([[0, 0, 1]])
    decayed = matrix_nms(mask, scores, labels, SIGMA)[0].tolist()
    assert decayed == pytest.approx([0.5 * np.exp(-SIGMA), 0.9, 0.8])


@pytest.fixture(scope="module")
def graph(network):
    return exported(network)


@pytest.mark.parametrize("opset", [11, 18, newest_opset()])
def test_onnxruntime_matches_pytorch_at_other_shapes(graph, opset):
    torch.manual_seed(3)
    batches = []
    for sizes in ([[160, 96], [101, 96], [160, 60]], [[64, 192]]):
        noise = torch.rand(len(sizes), 3, 16, 24) * 255
        batches.append((F.interpolate(noise, size=tuple(np.max(sizes, 0)), mode="bicubic"), sizes))
    assert_onnx_matches(graph, opset, batches, atol=1e-3)


def test_an_engine_builds_for_dynamic_batch_and_shape(graph, tmp_path):
    assert_engine_builds(graph, tmp_path)


def test_parameter_names(network):
    names = {name.removesuffix(".weight") for name in network.state_dict() if name.endswith(".weight")}
    assert {
        "mask_head.cls_convs.1.gn",
        "mask_head.kernel_convs.0.conv",
        "mask_head.conv_cls",
        "mask_head.conv_kernel",
        "mask_head.mask_feature_head.convs_all_levels.3.conv2.gn",
        "mask_head.mask_feature_head.conv_pred.conv",
    } <= names
