from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from samebox.graph.export import check_standard
from samebox.graph.opset import EXPORTER_OPSET, at_opset, newest_opset
from samebox.networks.blocks.nms import GreedyNMS
from samebox.networks.nets.point_rend import EAGER_BLOCK, CoarseMaskHead, PointHead, PointRendRoIHead

# Tolerance for sums in another order
CLOSE = 1e-5

STRIDE, CHANNELS, CLASSES, CROP = 4, 5, 3, 6  # masks have 3x3, 6x6, 12x12 and 24x24 cells
INSIDE, ACROSS_A_CORNER, ACROSS_ALL, BESIDE = (
    [9.0, 3.5, 30.25, 21.0],
    [-11.0, 17.0, 14.0, 52.0],
    [-3.0, -2.0, 70.0, 50.0],
    [90.0, 10.0, 120.0, 30.0],
)


def head(points=20, steps=3):
    """A tiny head with widely spread logits."""
    torch.manual_seed(0)
    coarse = CoarseMaskHead(CROP, CHANNELS, 4, 2, 8, CLASSES)
    fine = PointHead(CHANNELS, 6, 2, CLASSES)
    for parameter in [*coarse.parameters(), *fine.parameters()]:
        nn.init.normal_(parameter, std=0.5)
    nms = GreedyNMS(0.5, 3)
    return PointRendRoIHead(nn.Identity(), nms, 0.05, coarse, fine, STRIDE, steps, points, scale=2)


@pytest.fixture
def maps():
    """The finest level for canvases of 48 x 64 pixels, and a second level of NaN, which must not be read."""
    finest = np.random.default_rng(0).standard_normal((2, CHANNELS, 12, 16)).astype(np.float32)
    return [torch.from_numpy(finest), torch.full((2, CHANNELS, 6, 8), torch.nan)]


BOXES = torch.tensor([[INSIDE, ACROSS_A_CORNER], [BESIDE, ACROSS_ALL]])
LABELS = torch.tensor([[2, 0], [1, 2]])


# --- PointRend point by point, for all classes ---


def bilinear(x, column, row):
    """x [C,H,W] at a point in units of cells (the first has its centre at 0.5), zero outside → [C]."""
    _, height, width = x.shape
    left, top = int(np.floor(column - 0.5)), int(np.floor(row - 0.5))
    total = np.zeros(len(x))
    for i, j in product((top, top + 1), (left, left + 1)):
        if 0 <= i < height and 0 <= j < width:
            total += x[:, i, j] * (1 - abs(row - 0.5 - i)) * (1 - abs(column - 0.5 - j))
    return total


def upsampled(x):
    """[C,S,S] → [C,2S,2S], bilinear, with the border cells repeated beyond the border."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge")
    size = 2 * x.shape[1]
    out = np.empty((len(x), size, size))
    for i, j in product(range(size), repeat=2):
        out[:, i, j] = bilinear(padded, (j + 0.5) / 2 + 1, (i + 0.5) / 2 + 1)
    return out


def in_box(finest, box, column, row):
    """The finest level [C,H,W] at a point of a box, column and row in 0..1 over the box → [C]."""
    x1, y1, x2, y2 = box
    return bilinear(finest, (x1 + column * (x2 - x1)) / STRIDE, (y1 + row * (y2 - y1)) / STRIDE)


def parameters(*layers):
    return [(x.weight.detach().double().numpy().squeeze(), x.bias.detach().double().numpy()) for x in layers]


def coarse_logits(mask_head, crop):
    """[C,S,S] → [classes,S/2,S/2]."""
    conv, *fcs, last = parameters(mask_head.downsample_conv.conv, *mask_head.fcs, mask_head.fc_logits)
    half = CROP // 2
    x = np.einsum("ciajb,ocab->oij", crop.reshape(CHANNELS, half, 2, half, 2), conv[0])
    x = np.maximum(x + conv[1][:, None, None], 0).reshape(-1)
    for weight, bias in fcs:
        x = np.maximum(weight @ x + bias, 0)
    return (last[0] @ x + last[1]).reshape(CLASSES, half, half)


def point_logits(point_head, fine, coarse):
    """[C] and [classes] → [classes]."""
    *fcs, last = parameters(*(fc.conv for fc in point_head.fcs), point_head.fc_logits)
    for weight, bias in fcs:
        fine = np.maximum(weight @ np.concatenate([fine, coarse]) + bias, 0)
    return last[0] @ np.concatenate([fine, coarse]) + last[1]


def reference(head, finest, box, label):
    """The logits [classes,M,M] of one box in one image."""
    finest, box = finest.double().numpy(), box.double().numpy()
    crop = np.empty((CHANNELS, CROP, CROP))
    for i, j in product(range(CROP), repeat=2):
        crop[:, i, j] = in_box(finest, box, (j + 0.5) / CROP, (i + 0.5) / CROP)
    coarse = logits = coarse_logits(head.mask_head, crop)
    for step in range(head.steps):
        logits = upsampled(logits)
        size = logits.shape[1]
        if head.points >= 4 * size**2 and step < head.steps - 1:
            continue
        for cell in np.argsort(np.abs(logits[label]).reshape(-1))[: head.points]:
            i, j = divmod(cell, size)
            column, row = (j + 0.5) / size, (i + 0.5) / size
            coarse_at_point = bilinear(coarse, column * coarse.shape[1], row * coarse.shape[1])
            logits[:, i, j] = point_logits(head.point_head, in_box(finest, box, column, row), coarse_at_point)
    return torch.from_numpy(logits).float()


# --- Comparison ---


@pytest.mark.parametrize("points", [20, 40, 144, 1000], ids=lambda points: f"{points} points")
def test_masks_are_those_computed_point_by_point(maps, points):
    """20: some points in each step; 40: all in the first; 144: none in the first; 1000: all in the last."""
    roi_head = head(points)
    masks = roi_head.masks(maps, BOXES, LABELS)
    assert masks.shape == (2, 2, 24, 24)
    for image, row in product(range(2), range(2)):
        label = LABELS[image, row]
        logits = reference(roi_head, maps[0][image], BOXES[image, row], label)
        expected = logits[label].sigmoid()
        torch.testing.assert_close(masks[image, row], expected, rtol=0, atol=CLOSE)
        assert expected.std() > 0.1, "the mask is constant"


def test_the_label_selects_the_points_of_all_classes(maps):
    roi_head, boxes = head(), BOXES[:1]
    crops = roi_head.crops(maps[0][:1], boxes)
    label, classes = LABELS[0][:, None], torch.arange(CLASSES).expand(2, -1)
    logits = roi_head.refine(maps[0][:1], boxes, roi_head.mask_head(crops), torch.cat([label, classes], 1))
    for row in range(2):
        expected = reference(roi_head, maps[0][0], BOXES[0, row], LABELS[0, row])
        torch.testing.assert_close(logits[row, 1:], expected, rtol=0, atol=CLOSE)


@pytest.mark.parametrize(
    ("points", "counts"), [(20, [20, 20, 20]), (40, [36, 40, 40]), (144, [144, 144]), (1000, [576])]
)
def test_no_point_is_predicted_that_a_later_step_predicts_again(maps, points, counts):
    roi_head, predicted = head(points), []
    roi_head.point_head.register_forward_hook(
        lambda _head, inputs, _output: predicted.append(inputs[0].shape[2])
    )
    roi_head.masks(maps, BOXES, LABELS)
    assert predicted == counts


def test_a_box_outside_the_image_has_features_of_zero(maps):
    crops = head().crops(maps[0], BOXES).reshape(2, 2, CHANNELS, CROP, CROP)
    assert not crops[1, 0].any()
    assert crops[0, 1, :, :, :2].abs().max() == 0, "columns to the left of the image"
    assert crops[0, 1, :, :4, 3:].abs().min() > 0


@pytest.mark.parametrize("image", range(2))
def test_an_image_gives_the_same_results_in_a_batch_and_alone(maps, image):
    roi_head, part = head(), slice(image, image + 1)
    batched = roi_head.masks(maps, BOXES, LABELS)
    alone = roi_head.masks([x[part] for x in maps], BOXES[part], LABELS[part])
    torch.testing.assert_close(alone, batched[part], rtol=0, atol=CLOSE)
    assert not torch.allclose(batched[0], batched[1], atol=0.1)


def test_the_order_of_boxes_does_not_matter(maps):
    roi_head = head()
    masks = roi_head.masks(maps, BOXES.flip(1), LABELS.flip(1)).flip(1)
    torch.testing.assert_close(masks, roi_head.masks(maps, BOXES, LABELS), rtol=0, atol=CLOSE)


def test_more_boxes_than_eager_block(maps):
    roi_head, copies = head(), EAGER_BLOCK // 2 + 1
    masks = roi_head.masks(maps, BOXES.repeat(1, copies, 1), LABELS.repeat(1, copies))
    few = roi_head.masks(maps, BOXES, LABELS)
    torch.testing.assert_close(masks, few.repeat(1, copies, 1, 1), rtol=0, atol=CLOSE)


class Masks(nn.Module):
    """Only the masks, with tensors as inputs for the exporter."""

    def __init__(self, roi_head):
        super().__init__()
        self.roi_head = roi_head

    def forward(self, finest, boxes, labels):
        return self.roi_head.masks([finest], boxes, labels)


@pytest.fixture(scope="module")
def exported():
    dynamic = torch.export.Dim.DYNAMIC
    inputs = (torch.zeros(2, CHANNELS, 8, 10), torch.zeros(2, 2, 4), torch.zeros(2, 2, dtype=torch.int64))
    program = torch.onnx.export(
        Masks(head()).eval(),
        inputs,
        dynamo=True,
        opset_version=EXPORTER_OPSET,
        dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic}, {0: dynamic}, {0: dynamic}),
        input_names=["finest", "boxes", "labels"],
        verbose=False,
    )
    return program.model_proto


@pytest.mark.parametrize("opset", [11, EXPORTER_OPSET, newest_opset()])
@pytest.mark.parametrize("batch", [1, 2])
def test_onnxruntime_matches_pytorch(maps, exported, opset, batch):
    copied = onnx.ModelProto()
    copied.CopyFrom(exported)
    model = at_opset(copied, opset)
    check_standard(model, opset)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = [x[:batch] for x in (maps[0], BOXES, LABELS)]
    names = [entry.name for entry in session.get_inputs()]
    (masks,) = session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))
    with torch.inference_mode():
        expected = Masks(head())(*inputs)
    np.testing.assert_allclose(masks, expected.numpy(), rtol=0, atol=1e-5)


def test_parameter_names_of_the_heads():
    names = {name: tuple(value.shape) for name, value in head().state_dict().items()}
    layers = {
        "mask_head.downsample_conv.conv": (4, CHANNELS, 2, 2),
        "mask_head.fcs.0": (8, 4 * 3 * 3),
        "mask_head.fcs.1": (8, 8),
        "mask_head.fc_logits": (CLASSES * 3 * 3, 8),
        "point_head.fcs.0.conv": (6, CHANNELS + CLASSES, 1),
        "point_head.fcs.1.conv": (6, 6 + CLASSES, 1),
        "point_head.fc_logits": (CLASSES, 6 + CLASSES, 1),
    }
    weights = {f"{name}.weight": shape for name, shape in layers.items()}
    assert names == weights | {f"{name}.bias": shape[:1] for name, shape in layers.items()}
