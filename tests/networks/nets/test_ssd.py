import numpy as np
import pytest
import tiny_one_stage as tiny
import torch

from samebox.engine.build import engine_from_onnx
from samebox.engine.profile import Profile
from samebox.graph.export import export
from samebox.graph.output_comparison import Tolerance, compare_outputs
from samebox.runners.onnxruntime import OnnxRuntimeRunner

SIZES = [(64, 64)] * 3
CLOSE = Tolerance(score=1e-4, box=0.05)


def sides_of(anchors):
    return [anchors.get_buffer(f"sides_{level}").tolist() for level in range(len(anchors.per_cell))]


def by_definition(network, logits, deltas, level):
    """What a level of one image contributes, step by step: boxes, scores and labels, best first."""
    anchors, classes = network.bbox_head.anchors, tiny.CLASSES
    scores = tiny.by_anchor(logits, classes + 1).softmax(1)[:, :classes]  # the background is the last
    anchor, label = (scores > network.score_threshold).nonzero().T
    order = scores[anchor, label].sort(descending=True, stable=True).indices[: network.nms_pre]
    prior = tiny.grid(sides_of(anchors)[level], anchors.strides[level], *logits.shape[1:])[anchor[order]]
    delta = tiny.by_anchor(deltas, 4)[anchor[order]] * torch.tensor([0.1, 0.1, 0.2, 0.2])
    box = tiny.corners(prior[:, :2] + delta[:, :2] * prior[:, 2:], prior[:, 2:] * delta[:, 2:].exp())
    box = box.clamp(0, 64)
    seen = ((box[:, 2:] - box[:, :2]) > 0).all(1)
    return box[seen], scores[anchor, label][order][seen], label[order][seen], len(anchor)


@pytest.fixture(scope="module", params=[tiny.ssd, tiny.ssdlite], ids=["SSD", "SSDLite"])
def network(request):
    return request.param()


def test_candidates_are_those_of_the_definition(network):
    images, sizes = torch.randn(2, 3, 64, 64), torch.tensor([[64, 64]] * 2)
    with torch.inference_mode():
        maps = list(network.heads(images, sizes).values())
    boxes, scores, labels = tiny.candidates_of(network, images, sizes)
    cut = False
    for image in range(2):
        for level, (logits, deltas) in enumerate(zip(maps[::2], maps[1::2], strict=True)):
            expected = by_definition(network, logits[image], deltas[image], level)
            rows = torch.arange(network.nms_pre) + network.nms_pre * level
            rows = rows[scores[image, rows] > 0]
            torch.testing.assert_close(boxes[image, rows], expected[0], rtol=1e-5, atol=1e-3)
            torch.testing.assert_close(scores[image, rows], expected[1], rtol=1e-5, atol=1e-6)
            assert labels[image, rows].equal(expected[2])
            pairs = logits.shape[1] // (tiny.CLASSES + 1) * logits[0, 0].numel() * tiny.CLASSES
            assert expected[3] < pairs, "nothing lies below the threshold: the case shows nothing"
            cut |= expected[3] > network.nms_pre
    assert cut, "no level has more pairs than wanted: the case shows nothing"


def test_maps_of_the_heads(network):
    images, sizes = torch.randn(2, 3, 64, 64), torch.tensor([[64, 64]] * 2)
    with torch.inference_mode():
        maps = network.heads(images, sizes)
    assert tuple(maps) == network.head_outputs
    anchors = network.bbox_head.anchors
    for stride, kinds in zip(anchors.strides, anchors.per_cell, strict=True):
        cells = (64 // stride,) * 2
        assert maps[f"logits_{stride}"].shape == (2, kinds * (tiny.CLASSES + 1), *cells)
        assert maps[f"deltas_{stride}"].shape == (2, kinds * 4, *cells)


def test_names_of_ssd():
    state = tiny.ssd().state_dict()
    found = {name: tuple(value.shape) for name, value in state.items() if "backbone" not in name}
    extra = {
        f"neck.extra_layers.{i}.{j}.conv.{part}": shape
        for (i, j), weight in {
            (0, 0): (4, 16, 1, 1),
            (0, 1): (8, 4, 3, 3),
        }.items()
        for part, shape in (("weight", weight), ("bias", weight[:1]))
    }
    heads = {
        f"bbox_head.{branch}_convs.{level}.0.{part}": shape
        for branch, width in (("cls", tiny.CLASSES + 1), ("reg", 4))
        for level, (channels, kinds) in enumerate(((32, 4), (16, 6), (8, 4)))
        for part, shape in (("weight", (kinds * width, channels, 3, 3)), ("bias", (kinds * width,)))
    }
    assert found == {"neck.l2_norm.weight": (32,)} | extra | heads


def test_names_of_ssdlite():
    """As MMDetection composes them: convolutions with BatchNorm, the plain 1x1 of the heads at the end."""
    weights = {name for name in tiny.ssdlite().state_dict() if "backbone" not in name and "weight" in name}
    units = [f"neck.extra_layers.0.{unit}" for unit in ("0", "1.depthwise_conv", "1.pointwise_conv")]
    plain = []
    for level in range(3):
        for branch in ("cls", "reg"):
            units.append(f"bbox_head.{branch}_convs.{level}.0")
            plain.append(f"bbox_head.{branch}_convs.{level}.1.weight")
    assert weights == {f"{unit}.{part}.weight" for unit in units for part in ("conv", "bn")} | set(plain)


def test_l2_norm_is_for_the_finest_map_alone():
    neck = tiny.ssd().neck
    maps = torch.rand(1, 32, 8, 8), torch.rand(1, 16, 4, 4)
    first, second, *extra = neck(maps)
    assert first.equal(neck.l2_norm(maps[0]))
    assert second is maps[1]
    assert [x.shape for x in extra] == [(1, 8, 1, 1)]


@pytest.fixture(scope="module")
def deployed(network):
    return tiny.deployable(network)


@pytest.fixture(scope="module")
def answer(deployed):
    return tiny.answered(deployed, tiny.drawn(SIZES, 64, 64))


def test_form_of_the_answer(answer):
    assert {name: value.shape for name, value in answer.items()} == {
        "boxes": (3, tiny.FOUND, 4),
        "scores": (3, tiny.FOUND),
        "labels": (3, tiny.FOUND),
    }
    assert (answer["scores"] > 0.25).all()
    assert (np.diff(answer["scores"]) <= 0).all()
    assert 0 <= answer["boxes"].min() < answer["boxes"].max() <= 64


@pytest.mark.parametrize("index", range(3))
def test_an_image_of_a_batch_gives_what_it_gives_alone(deployed, answer, index):
    inputs = {name: value[index : index + 1] for name, value in tiny.drawn(SIZES, 64, 64).items()}
    batched = {name: value[index : index + 1] for name, value in answer.items()}
    assert compare_outputs(tiny.answered(deployed, inputs), batched, CLOSE) == tiny.FOUND


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network and its ONNX file."""
    deployed = tiny.deployable(tiny.ssd())
    path = tmp_path_factory.mktemp("ssd") / "model.onnx"
    export(deployed, tiny.SSD_SPEC, path, opset=18, lowering="portable")
    return deployed, path


@pytest.mark.parametrize("batch", [1, 3])
def test_onnxruntime_finds_what_pytorch_finds(exported, batch):
    deployed, path = exported
    inputs = tiny.drawn(SIZES[:batch], 64, 64)
    with OnnxRuntimeRunner(path) as runner:
        found = runner(inputs)
    assert compare_outputs(tiny.answered(deployed, inputs), found, CLOSE) == batch * tiny.FOUND


def test_an_engine_of_any_batch_up_to_four(exported, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    served = Profile(batch=(1, 1, 4), height=(64, 64, 64), width=(64, 64, 64))
    report = engine_from_onnx(exported[1], tmp_path / "model.engine", served, targets=["SM89"])
    assert report.layers > 100
