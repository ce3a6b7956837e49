import math

import pytest
import tiny_one_stage as tiny
import torch

from samebox.graph.output_comparison import Tolerance, compare_outputs
from samebox.networks.nets.yolov3 import YOLOv3Neck, decode

# Images of three sizes on one canvas
SIZES, CANVAS = [(64, 96), (128, 61), (90, 90)], (128, 96)
CLOSE = Tolerance(score=1e-4, box=0.05)


@pytest.fixture(scope="module", params=[tiny.yolov3, tiny.yolov3_mobilenet], ids=["Darknet", "MobileNetV2"])
def network(request):
    return request.param()


def select_candidates(network, maps):
    """The NMS candidates of one image, step by step: boxes, scores, labels.

    The last result is the number of pairs above both thresholds.
    """
    rows = []
    anchors = network.bbox_head.anchors
    for level, x in enumerate(maps):
        stride, sides = anchors.strides[level], anchors.get_buffer(f"sides_{level}").tolist()
        raw, prior = tiny.by_anchor(x, 5 + tiny.CLASSES), tiny.anchor_grid(sides, stride, *x.shape[1:])
        centre = prior[:, :2] + (raw[:, :2].sigmoid() - 0.5) * stride
        box = tiny.corners(centre, prior[:, 2:] * raw[:, 2:4].exp())
        rows.append(torch.cat([box, raw[:, 4:].sigmoid()], 1))
    anchor = torch.cat(rows)
    anchor = anchor[anchor[:, 4] >= network.objectness_threshold]
    index, label = (anchor[:, 5:] > network.score_threshold).nonzero().T
    probability = anchor[index, 5 + label]
    order = probability.sort(descending=True, stable=True).indices[: network.nms_pre]
    chosen = anchor[index[order]]
    return chosen[:, :4], probability[order] * chosen[:, 4], label[order], len(index)


def test_candidates_are_those_selected_step_by_step(network):
    """Pairs of all levels together, selected by class, of the anchors above the objectness threshold."""
    images, sizes = torch.randn(2, 3, 96, 128), torch.tensor([[96, 128], [90, 70]])
    with torch.inference_mode():
        maps = list(network.heads(images, sizes).values())[::-1]
    boxes, scores, labels = tiny.candidates_of(network, images, sizes)
    assert scores.shape == (2, network.nms_pre)
    for image in range(2):
        expected = select_candidates(network, [x[image] for x in maps])
        assert expected[3] > network.nms_pre, "no more pairs than nms_pre"
        torch.testing.assert_close(boxes[image], expected[0], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(scores[image], expected[1], rtol=1e-5, atol=1e-6)
        assert labels[image].equal(expected[2])
    assert (boxes < 0).any(), "no box extends beyond the canvas, where clipping would change it"


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_anchors_below_the_objectness_threshold_are_dropped(network, threshold, monkeypatch):
    monkeypatch.setattr(network, "objectness_threshold", threshold)
    monkeypatch.setattr(network, "nms_pre", 4000)  # all pairs of this small canvas
    images, sizes = torch.randn(1, 3, 32, 32), torch.tensor([[32, 32]])
    with torch.inference_mode():
        maps = list(network.heads(images, sizes).values())[::-1]
    _, scores, _ = tiny.candidates_of(network, images, sizes)
    _, expected, _, count = select_candidates(network, [x[0] for x in maps])
    assert 0 < count == (scores > 0).sum()
    torch.testing.assert_close(scores.sort().values[0, -count:], expected.sort().values)


def test_decode():
    anchor, raw = torch.tensor([10.0, 20.0, 30.0, 60.0]), torch.tensor([0.0, 50.0, 0.0, math.log(2)])
    # the centre moves by half a stride of 8, and the height doubles
    torch.testing.assert_close(decode(anchor, raw, 8), torch.tensor([10.0, 4.0, 30.0, 84.0]))


def test_head_output_names_and_shapes(network):
    images, sizes = torch.randn(2, 3, 96, 128), torch.tensor([[96, 128]] * 2)
    with torch.inference_mode():
        maps = network.heads(images, sizes)
    assert tuple(maps) == network.head_outputs
    strides, anchors_per_cell = network.bbox_head.anchors.strides[::-1], (3, 3, 2)  # finest first
    for (name, x), stride, per_cell in zip(maps.items(), strides, anchors_per_cell, strict=True):
        assert name == f"predictions_{stride}"
        assert x.shape == (2, per_cell * (5 + tiny.CLASSES), 96 // stride, 128 // stride)


def test_parameter_names():
    modules = {name.rpartition(".")[0] for name in tiny.yolov3().state_dict() if "backbone" not in name}
    parts = [f"neck.conv{level}" for level in (1, 2)]
    parts += [f"neck.detect{level}.conv{i}" for level in (1, 2, 3) for i in range(1, 6)]
    parts += [f"bbox_head.convs_bridge.{level}" for level in range(3)]
    predictors = {f"bbox_head.convs_pred.{level}" for level in range(3)}
    assert modules == {f"{part}.{layer}" for part in parts for layer in ("conv", "bn")} | predictors


def test_channels_of_the_neck():
    neck = YOLOv3Neck((64, 32, 16), (12, 8, 4))
    assert [block[0].conv.in_channels for block in (neck.detect1, neck.detect2, neck.detect3)] == [64, 40, 20]
    maps = [torch.rand(1, 16, 11, 8), torch.rand(1, 32, 6, 4), torch.rand(1, 64, 3, 2)]
    assert [x.shape[1:] for x in neck.eval()(maps)] == [(12, 3, 2), (8, 6, 4), (4, 11, 8)]


@pytest.fixture(scope="module")
def deployed(network):
    return tiny.deployable(network)


@pytest.fixture(scope="module")
def outputs(deployed):
    return tiny.run(deployed, tiny.random_inputs(SIZES, *CANVAS))


@pytest.mark.parametrize("index", range(3))
def test_an_image_gives_the_same_results_in_a_batch_and_alone(deployed, outputs, index):
    inputs = {name: value[index : index + 1] for name, value in tiny.random_inputs(SIZES, *CANVAS).items()}
    batched = {name: value[index : index + 1] for name, value in outputs.items()}
    assert compare_outputs(tiny.run(deployed, inputs), batched, CLOSE) == tiny.COUNT


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network and its ONNX file."""
    return tiny.exported(tiny.yolov3(), tiny.PADDED_SPEC, tmp_path_factory.mktemp("yolov3"))


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
    assert (
        compare_outputs(tiny.run(deployed, inputs), tiny.run_file(path, inputs), CLOSE)
        == len(sizes) * tiny.COUNT
    )


def test_an_engine_builds_for_dynamic_batch_and_shape(exported, tmp_path):
    tiny.assert_engine_builds(exported[1], tmp_path)
