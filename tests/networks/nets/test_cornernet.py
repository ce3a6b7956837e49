import numpy as np
import pytest
import torch
from graph_checks import assert_engine_builds, assert_onnx_matches, exported, padded_noise, run

from samebox.graph.opset import newest_opset
from samebox.networks.blocks.hourglass import HourglassNet
from samebox.networks.blocks.soft_nms import SoftNMS
from samebox.networks.nets.cornernet import CornerHead, CornerNet, running_maximum

CLASSES, CORNERS, MULTIPLE = 2, 20, 32
SIZES = [[60, 90], [41, 95], [63, 31]]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    backbone, head = HourglassNet(2, [8, 8, 12], [1, 1, 1]), CornerHead(2, 8, 4, CLASSES)
    nms = SoftNMS(0.5, 0.001, 20)
    network = CornerNet(backbone, head, nms, MULTIPLE, CORNERS, 200, distance_threshold=5.0)
    for name, parameter in network.named_parameters():
        if "_heat" in name:  # so that both classes have corners and scores differ
            parameter.data *= 0 if name.endswith("bias") else 8
    return network.eval()


@pytest.fixture(scope="module")
def images():
    return padded_noise(SIZES, 63, 95)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("length", [1, 5, 64, 100])
def test_running_maximum_is_the_cumulative_one(dim, backwards, length):
    shape = (2, 3, length, 7) if dim == 2 else (2, 3, 7, length)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(length))
    expected = x.flip(dim).cummax(dim).values.flip(dim) if backwards else x.cummax(dim).values
    assert running_maximum(x, dim, backwards).equal(expected)


def test_images_are_centred_on_their_own_canvas(network, images):
    sizes = torch.tensor(SIZES)
    centred = network.centre(images, sizes)
    for image, out, (height, width) in zip(images, centred, SIZES, strict=True):
        canvas = [side | (MULTIPLE - 1) for side in (height, width)]
        top, left = canvas[0] // 2 - height // 2, canvas[1] // 2 - width // 2
        expected = torch.zeros_like(image)
        expected[:, top : top + height, left : left + width] = image[:, :height, :width]
        assert out.equal(expected)


def top_pairs(network, images, sizes, image):
    """The pairs of one image before the NMS, step by step: (score, label, box), sorted by score."""
    heads = {name: x[image] for name, x in network.heads(images, torch.tensor(sizes)).items()}
    canvas = [side | (MULTIPLE - 1) for side in sizes[image]]
    cells = [(side + 1) // 4 for side in canvas]
    corners = {}
    for kind in ("tl", "br"):
        heat = heads[f"{kind}_heat"].sigmoid()
        peaks = []
        for label, row, column in np.ndindex(*heat.shape):
            window = heat[label, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            if heat[label, row, column] == window.max() and row < cells[0] and column < cells[1]:
                peaks.append((float(heat[label, row, column]), label, row, column))
        peaks = sorted(peaks, key=lambda peak: -peak[0])[:CORNERS]
        corners[kind] = [
            (score, label, *place(heads, kind, row, column, sizes[image], canvas, cells))
            for score, label, row, column in peaks
        ]
    pairs = []
    for first in corners["tl"]:
        for second in corners["br"]:
            near = abs(first[4] - second[4]) <= network.distance_threshold
            if first[1] == second[1] and near and second[2] > first[2] and second[3] > first[3]:
                pairs.append(((first[0] + second[0]) / 2, first[1], (*first[2:4], *second[2:4])))
    return sorted(pairs, key=lambda pair: -pair[0])


def place(heads, kind, row, column, size, canvas, cells):
    """x, y of a corner in the image, and its embedding."""
    across, down = heads[f"{kind}_off"][:, row, column].tolist()
    x = (column + across) * canvas[1] / cells[1] - (canvas[1] // 2 - size[1] // 2)
    y = (row + down) * canvas[0] / cells[0] - (canvas[0] // 2 - size[0] // 2)
    return max(x, 0), max(y, 0), heads[f"{kind}_emb"][0, row, column].item()


@pytest.mark.parametrize("image", range(3))
def test_pairs_of_corners_are_those_selected_step_by_step(network, images, image):
    class NoNMS(torch.nn.Module):
        def forward(self, *candidates):
            return candidates

    without_nms = CornerNet(network.backbone, network.bbox_head, NoNMS(), MULTIPLE, CORNERS, 200, 5.0)
    with torch.inference_mode():
        expected = top_pairs(without_nms, images, SIZES, image)
    outputs = run(without_nms.eval(), images, SIZES)
    assert len(expected) > 2
    scores, labels, boxes = (outputs[name][image] for name in ("scores", "labels", "boxes"))
    expected_scores, expected_labels, expected_boxes = zip(*expected, strict=True)
    torch.testing.assert_close(scores[: len(expected)], torch.tensor(expected_scores))
    assert labels[: len(expected)].tolist() == list(expected_labels)
    torch.testing.assert_close(boxes[: len(expected)], torch.tensor(expected_boxes), rtol=1e-4, atol=1e-3)
    assert not scores[len(expected) :].any()


@pytest.mark.parametrize("index", range(3))
def test_an_image_gives_the_same_results_in_a_batch_and_alone(network, images, index):
    alone = run(network, images[index : index + 1], SIZES[index : index + 1])
    assert (alone["scores"] > 0).sum() > 2
    for name, value in run(network, images, SIZES).items():
        torch.testing.assert_close(value[index : index + 1], alone[name], rtol=1e-4, atol=1e-3)


@pytest.fixture(scope="module")
def graph(network):
    return exported(network)


@pytest.mark.parametrize("opset", [11, 18, newest_opset()])
def test_onnxruntime_matches_pytorch_at_other_shapes(graph, opset):
    torch.manual_seed(4)
    batches = [
        (torch.rand(2, 3, 95, 63) * 255, [[90, 60], [70, 50]]),
        (torch.rand(1, 3, 63, 127) * 255, [[63, 100]]),
    ]
    assert_onnx_matches(graph, opset, batches, rtol=1e-3, atol=2e-3)


def test_an_engine_builds_for_dynamic_batch_and_shape(graph, tmp_path):
    assert_engine_builds(graph, tmp_path, heights=(63, 127, 191), widths=(63, 127, 191))
