import math

import numpy as np
import pytest
import tiny_dense
import tiny_one_stage as tiny
import torch
import torch.nn.functional as F

from samebox.graph.output_comparison import Tolerance, compare_outputs
from samebox.networks.blocks.anchors import Points
from samebox.networks.blocks.resnet import ResNet
from samebox.networks.nets.fcos import FCOSHead

# Images of three sizes on one canvas
SIZES, CANVAS = [(64, 96), (128, 61), (90, 90)], (128, 96)
CLOSE = Tolerance(score=1e-5, box=1e-2)


@pytest.fixture(scope="module", params=[False, True], ids=["original norm", "masked norm"])
def network(request):
    return tiny_dense.fcos(masked_norm=request.param)


def test_candidates_are_those_selected_step_by_step(network):
    """Pairs are selected by their class score; the output score is its product with the centerness."""

    def boxes_of(maps, stride):
        _, distances, centerness = maps
        x, y = ((tiny_dense.cell_positions(*distances.shape[1:]) + 0.5) * stride).T
        left, top, right, bottom = tiny.by_anchor(distances, 4).T
        boxes = torch.stack([x - left, y - top, x + right, y + bottom], 1)
        return boxes, centerness.flatten().sigmoid()

    scores = tiny_dense.assert_candidates(network, boxes_of)
    assert (scores[scores > 0] < network.score_threshold).any(), "no product below the threshold"


def test_head_outputs_at_a_level():
    torch.manual_seed(0)
    head, x = FCOSHead(8, 16, 2, 3, 4, Points([8, 16])).eval(), torch.randn(2, 8, 6, 5)
    head.scales[1].scale.data.fill_(1.5)

    def tower(convs):
        out = x
        for module in convs:
            out = F.conv2d(out, module.conv.weight, padding=1)
            out = F.group_norm(out, 4, module.gn.weight, module.gn.bias).relu()
        return out

    with torch.no_grad():
        logits, distances, centerness = head(x, 1)
        classes, boxes = tower(head.cls_convs), tower(head.reg_convs)
        torch.testing.assert_close(logits, head.conv_cls(classes))
        torch.testing.assert_close(centerness, head.conv_centerness(classes))
        torch.testing.assert_close(distances, (1.5 * head.conv_reg(boxes)).exp())


def test_parameter_names_of_the_head():
    head = FCOSHead(8, 16, 2, 3, 4, Points([8, 16]))
    towers = {
        f"{tower}_convs.{i}.{part}": shape
        for tower in ("cls", "reg")
        for i, inputs in enumerate((8, 16))
        for part, shape in (("conv.weight", (16, inputs, 3, 3)), ("gn.weight", (16,)), ("gn.bias", (16,)))
    }
    last = {
        f"conv_{name}.{part}": shape
        for name, width in (("cls", 3), ("reg", 4), ("centerness", 1))
        for part, shape in (("weight", (width, 16, 3, 3)), ("bias", (width,)))
    }
    scales = {f"scales.{level}.scale": () for level in range(2)}
    assert {name: tuple(value.shape) for name, value in head.state_dict().items()} == towers | last | scales


def test_head_output_names_and_shapes(network):
    images, sizes = torch.randn(2, 3, 96, 128), torch.tensor([[96, 128]] * 2)
    with torch.inference_mode():
        maps = network.heads(images, sizes)
    assert tuple(maps) == network.head_outputs
    assert network.head_outputs[:4] == ("logits_8", "distances_8", "centerness_8", "logits_16")
    for stride in tiny_dense.STRIDES:
        cells = math.ceil(96 / stride), math.ceil(128 / stride)
        assert maps[f"logits_{stride}"].shape == (2, tiny.CLASSES, *cells)
        assert maps[f"distances_{stride}"].shape == (2, 4, *cells)
        assert maps[f"centerness_{stride}"].shape == (2, 1, *cells)
        assert (maps[f"distances_{stride}"] > 0).all()


@pytest.fixture(scope="module")
def deployed(network):
    return tiny.deployable(network)


@pytest.fixture(scope="module")
def outputs(deployed):
    return tiny.run(deployed, tiny.random_inputs(SIZES, *CANVAS))


def row(values, index):
    return {name: value[index : index + 1] for name, value in values.items()}


def test_output_shapes_and_ranges(outputs):
    assert {name: value.shape for name, value in outputs.items()} == {
        "boxes": (3, tiny.COUNT, 4),
        "scores": (3, tiny.COUNT),
        "labels": (3, tiny.COUNT),
    }
    assert (np.diff(outputs["scores"]) <= 0).all()
    assert set(np.unique(outputs["labels"])) <= set(range(tiny.CLASSES))
    for boxes, (height, width) in zip(outputs["boxes"], SIZES, strict=True):
        assert (boxes >= 0).all()
        assert (boxes <= [width, height, width, height]).all()


@pytest.mark.parametrize("index", range(3))
def test_an_image_gives_the_same_results_in_a_batch_and_alone(deployed, outputs, index):
    alone = tiny.run(deployed, row(tiny.random_inputs(SIZES, *CANVAS), index))
    assert compare_outputs(alone, row(outputs, index), CLOSE) == (alone["scores"] > 0).sum() > 5


def test_an_image_without_area_has_no_detections(deployed):
    inputs = tiny.random_inputs(SIZES, *CANVAS)
    outputs = tiny.run(deployed, inputs | {"sizes": np.zeros_like(inputs["sizes"])})
    assert not any(value.any() for value in outputs.values())


@pytest.mark.parametrize(
    "canvas",
    [(122, 93), (128, 96), (256, 224), (251, 130)],
    ids=["no padding", "multiple of 32", "wide", "odd"],
)
def test_padding_changes_the_results_only_without_the_masked_norm(deployed, canvas):
    """The results are compared with those on a canvas without padding."""
    height, width = 122, 93
    image = tiny.random_inputs([(height, width)], height, width)
    alone = tiny.run(deployed, image)
    images = np.zeros((1, 3, *canvas), np.float32)
    images[:, :, :height, :width] = image["images"]
    padded = tiny.run(deployed, {"images": images, "sizes": image["sizes"]})
    if deployed.network.masked_norm:
        assert compare_outputs(alone, padded, CLOSE) == (alone["scores"] > 0).sum() > 5
    elif canvas != (height, width):
        assert np.abs(alone["scores"] - padded["scores"]).max() > 1e-3


@pytest.mark.parametrize("style", ["pytorch", "caffe"])
def test_masked_norm_works_with_bottlenecks_of_either_style(style):
    """The strides of the backbone's masks are those of its convolutions."""
    torch.manual_seed(0)
    network = tiny_dense.fcos(masked_norm=True)
    network.backbone = ResNet(50, style, base_channels=2, out_stages=[1, 2]).eval()
    image, size = torch.randn(1, 3, 90, 70), torch.tensor([[90, 70]])
    with torch.inference_mode():
        alone = network.heads(image, size)
        padded = network.heads(F.pad(image, (0, 60, 0, 40)), size)
    for name, expected in alone.items():
        height, width = expected.shape[2:]
        assert padded[name].shape[2] > height
        torch.testing.assert_close(padded[name][:, :, :height, :width], expected, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The network with the masked norm, which exports more operators, and its ONNX file."""
    network = tiny_dense.fcos(masked_norm=True)
    return tiny.exported(network, tiny.PADDED_SPEC, tmp_path_factory.mktemp("fcos"))


@pytest.mark.parametrize(
    ("sizes", "canvas"),
    [
        pytest.param(SIZES, CANVAS, id="mixed sizes"),
        pytest.param([(64, 64)], (64, 64), id="one image"),
        pytest.param([(250, 70)], (250, 70), id="not a multiple of 32"),
    ],
)
def test_onnxruntime_matches_pytorch(exported, sizes, canvas):
    deployed, path = exported
    inputs = tiny.random_inputs(sizes, *canvas)
    expected = tiny.run(deployed, inputs)
    close = Tolerance(score=1e-4, box=0.05)
    assert compare_outputs(expected, tiny.run_file(path, inputs), close) == (expected["scores"] > 0).sum() > 5


def test_an_engine_builds_for_dynamic_batch_and_shape(exported, tmp_path):
    tiny.assert_engine_builds(exported[1], tmp_path)
