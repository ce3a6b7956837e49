import math

import numpy as np
import pytest
import tiny_dense
import tiny_one_stage as tiny
import torch
import torch.nn.functional as F

from samebox.engine.build import engine_from_onnx
from samebox.engine.profile import Profile
from samebox.graph.export import export
from samebox.graph.output_comparison import Tolerance, compare_outputs
from samebox.networks.blocks.anchors import Points
from samebox.networks.blocks.resnet import ResNet
from samebox.networks.nets.fcos import FCOSHead
from samebox.runners.onnxruntime import OnnxRuntimeRunner

# Images of three sizes on one canvas
SIZES, CANVAS = [(64, 96), (128, 61), (90, 90)], (128, 96)
CLOSE = Tolerance(score=1e-5, box=1e-2)


@pytest.fixture(scope="module", params=[False, True], ids=["as the original", "masked norm"])
def network(request):
    return tiny_dense.fcos(masked_norm=request.param)


def test_candidates_are_those_of_the_definition(network):
    """The best by the class alone, ranked by its product with the centerness."""

    def boxes_of(maps, stride):
        _, distances, centerness = maps
        x, y = ((tiny_dense.grid(*distances.shape[1:]) + 0.5) * stride).T
        left, top, right, bottom = tiny.by_anchor(distances, 4).T
        boxes = torch.stack([x - left, y - top, x + right, y + bottom], 1)
        return boxes, centerness.flatten().sigmoid()

    scores = tiny_dense.assert_by_definition(network, boxes_of)
    assert (scores[scores > 0] < network.score_threshold).any(), "no product below the threshold"


def test_the_head_at_a_level():
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


def test_names_of_the_head():
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


def test_maps_of_the_heads(network):
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
def answer(deployed):
    return tiny.answered(deployed, tiny.drawn(SIZES, *CANVAS))


def rows(values, index):
    return {name: value[index : index + 1] for name, value in values.items()}


def test_form_of_the_answer(answer):
    assert {name: value.shape for name, value in answer.items()} == {
        "boxes": (3, tiny.FOUND, 4),
        "scores": (3, tiny.FOUND),
        "labels": (3, tiny.FOUND),
    }
    assert (np.diff(answer["scores"]) <= 0).all()
    assert set(np.unique(answer["labels"])) <= set(range(tiny.CLASSES))
    for boxes, (height, width) in zip(answer["boxes"], SIZES, strict=True):
        assert (boxes >= 0).all()
        assert (boxes <= [width, height, width, height]).all()


@pytest.mark.parametrize("index", range(3))
def test_an_image_of_a_batch_gives_what_it_gives_alone(deployed, answer, index):
    alone = tiny.answered(deployed, rows(tiny.drawn(SIZES, *CANVAS), index))
    assert compare_outputs(alone, rows(answer, index), CLOSE) == (alone["scores"] > 0).sum() > 5


def test_an_image_without_area_gives_nothing(deployed):
    inputs = tiny.drawn(SIZES, *CANVAS)
    found = tiny.answered(deployed, inputs | {"sizes": np.zeros_like(inputs["sizes"])})
    assert not any(value.any() for value in found.values())


@pytest.mark.parametrize(
    "canvas", [(122, 93), (128, 96), (256, 224), (251, 130)], ids=["none", "usual", "wide", "odd"]
)
def test_how_far_the_canvas_is_padded(deployed, canvas):
    """With the masked norm it does not matter, though there is no padding at all; else it does."""
    height, width = 122, 93
    image = tiny.drawn([(height, width)], height, width)
    alone = tiny.answered(deployed, image)
    images = np.zeros((1, 3, *canvas), np.float32)
    images[:, :, :height, :width] = image["images"]
    padded = tiny.answered(deployed, {"images": images, "sizes": image["sizes"]})
    if deployed.network.masked_norm:
        assert compare_outputs(alone, padded, CLOSE) == (alone["scores"] > 0).sum() > 5
    elif canvas != (height, width):
        assert np.abs(alone["scores"] - padded["scores"]).max() > 1e-3


@pytest.mark.parametrize("style", ["pytorch", "caffe"])
def test_bottlenecks_of_either_style_end_with_the_image(style):
    """The masks of the backbone fit the strides at which its convolutions really are."""
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
    """The network with the masked norm, which has more to export, and its ONNX file."""
    deployed = tiny.deployable(tiny_dense.fcos(masked_norm=True))
    path = tmp_path_factory.mktemp("fcos") / "model.onnx"
    export(deployed, tiny.YOLO_SPEC, path, opset=18, lowering="portable")
    return deployed, path


@pytest.mark.parametrize(
    ("sizes", "canvas"),
    [
        pytest.param(SIZES, CANVAS, id="mixed"),
        pytest.param([(64, 64)], (64, 64), id="one"),
        pytest.param([(250, 70)], (250, 70), id="no multiple of 32"),
    ],
)
def test_onnxruntime_finds_what_pytorch_finds(exported, sizes, canvas):
    deployed, path = exported
    inputs = tiny.drawn(sizes, *canvas)
    expected = tiny.answered(deployed, inputs)
    with OnnxRuntimeRunner(path) as runner:
        found = runner(inputs)
    close = Tolerance(score=1e-4, box=0.05)
    assert compare_outputs(expected, found, close) == (expected["scores"] > 0).sum() > 5


def test_an_engine_of_any_batch_up_to_four_and_any_shape(exported, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    served = Profile(batch=(1, 1, 4), height=(64, 128, 256), width=(64, 160, 256))
    report = engine_from_onnx(exported[1], tmp_path / "model.engine", served, targets=["SM89"])
    assert report.layers > 100
