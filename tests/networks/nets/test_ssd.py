import numpy as np
import pytest
import tiny_one_stage as tiny
import torch

from samebox.graph.output_comparison import Tolerance, compare_outputs

SIZES = [(64, 64)] * 3
CLOSE = Tolerance(score=1e-4, box=0.05)


def sides_of(anchors):
    return [anchors.get_buffer(f"sides_{level}").tolist() for level in range(len(anchors.per_cell))]


def select_candidates(network, logits, deltas, level):
    """The NMS candidates of one level and image, step by step: boxes, scores and labels, sorted by score.

    The last result is the number of pairs above the score threshold.
    """
    anchors, classes = network.bbox_head.anchors, tiny.CLASSES
    scores = tiny.by_anchor(logits, classes + 1).softmax(1)[:, :classes]  # the background is last
    anchor, label = (scores > network.score_threshold).nonzero().T
    order = scores[anchor, label].sort(descending=True, stable=True).indices[: network.nms_pre]
    priors = tiny.anchor_grid(sides_of(anchors)[level], anchors.strides[level], *logits.shape[1:])
    prior = priors[anchor[order]]
    delta = tiny.by_anchor(deltas, 4)[anchor[order]] * torch.tensor([0.1, 0.1, 0.2, 0.2])
    box = tiny.corners(prior[:, :2] + delta[:, :2] * prior[:, 2:], prior[:, 2:] * delta[:, 2:].exp())
    box = box.clamp(0, 64)
    has_area = ((box[:, 2:] - box[:, :2]) > 0).all(1)
    return box[has_area], scores[anchor, label][order][has_area], label[order][has_area], len(anchor)


@pytest.fixture(scope="module", params=[tiny.ssd, tiny.ssdlite], ids=["SSD", "SSDLite"])
def network(request):
    return request.param()


def test_candidates_are_those_selected_step_by_step(network):
    images, sizes = torch.randn(2, 3, 64, 64), torch.tensor([[64, 64]] * 2)
    with torch.inference_mode():
        maps = list(network.heads(images, sizes).values())
    boxes, scores, labels = tiny.candidates_of(network, images, sizes)
    exceeds_limit = False
    for image in range(2):
        for level, (logits, deltas) in enumerate(zip(maps[::2], maps[1::2], strict=True)):
            expected = select_candidates(network, logits[image], deltas[image], level)
            rows = torch.arange(network.nms_pre) + network.nms_pre * level
            rows = rows[scores[image, rows] > 0]
            torch.testing.assert_close(boxes[image, rows], expected[0], rtol=1e-5, atol=1e-3)
            torch.testing.assert_close(scores[image, rows], expected[1], rtol=1e-5, atol=1e-6)
            assert labels[image, rows].equal(expected[2])
            pairs = logits.shape[1] // (tiny.CLASSES + 1) * logits[0, 0].numel() * tiny.CLASSES
            assert expected[3] < pairs, "no pair is below the threshold"
            exceeds_limit |= expected[3] > network.nms_pre
    assert exceeds_limit, "no level has more pairs than nms_pre"


def test_head_output_names_and_shapes(network):
    images, sizes = torch.randn(2, 3, 64, 64), torch.tensor([[64, 64]] * 2)
    with torch.inference_mode():
        maps = network.heads(images, sizes)
    assert tuple(maps) == network.head_outputs
    anchors = network.bbox_head.anchors
    for stride, per_cell in zip(anchors.strides, anchors.per_cell, strict=True):
        cells = (64 // stride,) * 2
        assert maps[f"logits_{stride}"].shape == (2, per_cell * (tiny.CLASSES + 1), *cells)
        assert maps[f"deltas_{stride}"].shape == (2, per_cell * 4, *cells)


def test_parameter_names_of_ssd():
    state = tiny.ssd().state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items() if "backbone" not in name}
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
        for level, (channels, per_cell) in enumerate(((32, 4), (16, 6), (8, 4)))
        for part, shape in (("weight", (per_cell * width, channels, 3, 3)), ("bias", (per_cell * width,)))
    }
    assert shapes == {"neck.l2_norm.weight": (32,)} | extra | heads


def test_parameter_names_of_ssdlite():
    """As in MMDetection: convolutions with BatchNorm, and at the end of the heads a plain 1x1 convolution."""
    weights = {name for name in tiny.ssdlite().state_dict() if "backbone" not in name and "weight" in name}
    units = [f"neck.extra_layers.0.{unit}" for unit in ("0", "1.depthwise_conv", "1.pointwise_conv")]
    plain = []
    for level in range(3):
        for branch in ("cls", "reg"):
            units.append(f"bbox_head.{branch}_convs.{level}.0")
            plain.append(f"bbox_head.{branch}_convs.{level}.1.weight")
    assert weights == {f"{unit}.{part}.weight" for unit in units for part in ("conv", "bn")} | set(plain)


def test_l2_norm_is_applied_only_to_the_finest_map():
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
def outputs(deployed):
    return tiny.run(deployed, tiny.random_inputs(SIZES, 64, 64))


def test_output_shapes_and_ranges(outputs):
    assert {name: value.shape for name, value in outputs.items()} == {
        "boxes": (3, tiny.COUNT, 4),
        "scores": (3, tiny.COUNT),
        "labels": (3, tiny.COUNT),
    }
    assert (outputs["scores"] > 0.25).all()
    assert (np.diff(outputs["scores"]) <= 0).all()
    assert 0 <= outputs["boxes"].min() < outputs["boxes"].max() <= 64


@pytest.mark.parametrize("index", range(3))
def test_an_image_gives_the_same_results_in_a_batch_and_alone(deployed, outputs, index):
    inputs = {name: value[index : index + 1] for name, value in tiny.random_inputs(SIZES, 64, 64).items()}
    batched = {name: value[index : index + 1] for name, value in outputs.items()}
    assert compare_outputs(tiny.run(deployed, inputs), batched, CLOSE) == tiny.COUNT


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network and its ONNX file."""
    return tiny.exported(tiny.ssd(), tiny.FIXED_SPEC, tmp_path_factory.mktemp("ssd"))


@pytest.mark.parametrize("batch", [1, 3])
def test_onnxruntime_matches_pytorch(exported, batch):
    deployed, path = exported
    inputs = tiny.random_inputs(SIZES[:batch], 64, 64)
    assert (
        compare_outputs(tiny.run(deployed, inputs), tiny.run_file(path, inputs), CLOSE) == batch * tiny.COUNT
    )


def test_an_engine_builds_for_dynamic_batch(exported, tmp_path):
    tiny.assert_engine_builds(exported[1], tmp_path, height=(64, 64, 64), width=(64, 64, 64))
