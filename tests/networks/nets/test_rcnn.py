import pytest
import torch
from graph_checks import padded_noise, run
from tiny_rcnn import (
    CLASSES,
    COUNT,
    REGIONS,
    SIZES,
    STDS,
    box_head,
    cascade_mask_rcnn,
    mask_head,
    mask_rcnn,
    pyramid,
)
from torch import nn

from samebox.networks.blocks.boxes import clip, decode_deltas
from samebox.networks.blocks.nms import GreedyNMS
from samebox.networks.nets.contract import BOXES, MASKS, compute_padding_rows
from samebox.networks.nets.rcnn import RoIHead

MIXED = [[96, 128], [70, 128], [128, 61]]
SHAPES = {"boxes": (4,), "scores": (), "labels": (), "masks": (28, 28)}


@pytest.fixture(scope="module", params=[mask_rcnn, cascade_mask_rcnn], ids=["Mask", "Cascade Mask"])
def network(request):
    return request.param()


@pytest.fixture(scope="module")
def images():
    """Three images of different sizes on one canvas."""
    return padded_noise(MIXED, 128, 128)


@pytest.fixture(scope="module")
def outputs(network, images):
    return run(network, images, MIXED)


def test_output_shapes_and_ranges(outputs):
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        name: (3, COUNT, *shape) for name, shape in SHAPES.items()
    }
    assert outputs["labels"].dtype == torch.int64
    scores, masks = outputs["scores"], outputs["masks"]
    assert (scores.diff(dim=1) <= 0).all()
    assert ((scores == 0) | (scores > 0.05)).all()
    assert ((masks >= 0) & (masks <= 1)).all()
    assert masks[scores > 0].flatten(1).any(1).all()
    assert (outputs["labels"] < CLASSES).all()


def test_boxes_lie_within_their_own_image(outputs):
    for boxes, (height, width) in zip(outputs["boxes"], MIXED, strict=True):
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height])).all()


def test_outputs_follow_from_the_head_outputs(network, images, outputs):
    with torch.inference_mode():
        heads = network.heads(images, torch.tensor(MIXED))
    assert tuple(heads) == network.head_outputs
    assert heads["objectness_4"].shape == (3, 3, 32, 32)
    assert heads["deltas_64"].shape == (3, 12, 2, 2)
    boxes, scores = heads["boxes"], heads["class_logits"].softmax(2)[..., :-1]
    is_proposal = heads["proposal_scores"][..., None] > 0
    candidates = torch.where(is_proposal & (scores > 0.05), scores, 0.0).flatten(1)
    labels = torch.arange(CLASSES).expand_as(scores).flatten(1)
    detections = network.roi_head.nms(boxes.expand(-1, -1, CLASSES, -1).flatten(1, 2), candidates, labels)
    for name, value in zip(BOXES, detections, strict=True):
        torch.testing.assert_close(value, outputs[name])


@pytest.mark.parametrize("index", range(3))
def test_an_image_gives_the_same_results_in_a_batch_and_alone(network, images, outputs, index):
    alone = run(network, images[index : index + 1], MIXED[index : index + 1])
    assert (alone["scores"] > 0).sum() > 3
    for name, value in alone.items():
        torch.testing.assert_close(outputs[name][index : index + 1], value, rtol=1e-5, atol=1e-4)


def test_an_image_of_only_background_has_no_detections(network, images):
    heads = [module for module in network.modules() if hasattr(module, "fc_cls")]
    biases = [head.fc_cls.bias.data.clone() for head in heads]
    for head in heads:
        head.fc_cls.bias.data[-1] = 1e4
    outputs = run(network, images, MIXED)
    for head, bias in zip(heads, biases, strict=True):
        head.fc_cls.bias.data = bias
    assert outputs.keys() == SHAPES.keys()
    assert not any(value.any() for value in outputs.values())


def test_an_image_without_area_has_no_detections(network, images, outputs):
    changed = run(network, images, [MIXED[0], [0, 0], MIXED[2]])
    assert not any(value[1].any() for value in changed.values())
    torch.testing.assert_close(changed["scores"][[0, 2]], outputs["scores"][[0, 2]])


class FixedBoxHead(nn.Module):
    """A box head that returns given boxes and scores."""

    def __init__(self, boxes, scores):
        super().__init__()
        self.boxes, self.scores = torch.tensor(boxes), torch.tensor(scores)

    def forward(self, maps, boxes, sizes):
        return self.boxes[None], self.scores[None]


class ConstantMaskHead(nn.Module):
    """A mask head whose masks have the value label + 1 everywhere."""

    def forward(self, maps, boxes, labels):
        return labels[..., None, None].expand(-1, -1, 2, 2) + 1.0


def second_stage(boxes, scores, objectness, count=4, masks=None):
    head = RoIHead(FixedBoxHead(boxes, scores), GreedyNMS(0.5, count), 0.05, masks)
    return head([], torch.zeros(1, len(scores), 4), torch.tensor([objectness]), torch.tensor([[99, 99]]))


SEPARATE_BOXES = [[[10.0 * i, 0.0, 10.0 * i + 8, 8.0]] for i in range(5)]


def test_each_pair_of_proposal_and_class_is_a_candidate():
    boxes = [[[0.0, 0, 8, 8], [20.0, 0, 28, 8]], [[40.0, 0, 48, 8], [60.0, 0, 68, 8]]]
    outputs = second_stage(boxes, [[0.3, 0.6], [0.05, 0.5]], [0.9, 0.8])
    assert outputs["labels"].tolist() == [[1, 1, 0, 0]]
    torch.testing.assert_close(outputs["scores"], torch.tensor([[0.6, 0.5, 0.3, 0.0]]))  # 0.05 is not above
    assert outputs["boxes"][0, :, 0].tolist() == [20, 60, 0, 0]


def test_a_class_agnostic_box_is_used_for_all_classes():
    outputs = second_stage(SEPARATE_BOXES[:1], [[0.3, 0.6]], [0.9])
    assert outputs["labels"].tolist() == [[1, 0, 0, 0]]
    assert outputs["boxes"].tolist() == [[[0, 0, 8, 8], [0, 0, 8, 8], [0] * 4, [0] * 4]]


def test_more_objects_than_count():
    outputs = second_stage(SEPARATE_BOXES, [[0.5], [0.9], [0.6], [0.8], [0.7]], [1.0] * 5, count=3)
    torch.testing.assert_close(outputs["scores"], torch.tensor([[0.9, 0.8, 0.7]]))


def test_padding_proposals_give_no_detections_whatever_their_score():
    outputs = second_stage(SEPARATE_BOXES, [[0.5]] * 5, [1.0, 1.0, 0.0, 0.0, 0.0], masks=ConstantMaskHead())
    assert (outputs["scores"] > 0).sum() == 2
    assert outputs["masks"][0].flatten(1).any(1).tolist() == [True, True, False, False]


def test_masks_are_computed_for_the_detections_or_for_all_rows_as_in_a_graph():
    class Counting(ConstantMaskHead):
        def forward(self, maps, boxes, labels):
            rows.append(labels.shape[1])
            return super().forward(maps, boxes, labels)

    rows = []
    outputs = second_stage(SEPARATE_BOXES, [[0.5]] * 5, [1.0, 1.0, 0.0, 0.0, 0.0], masks=Counting())
    with compute_padding_rows():
        all_rows = second_stage(SEPARATE_BOXES, [[0.5]] * 5, [1.0, 1.0, 0.0, 0.0, 0.0], masks=Counting())
    no_detections = second_stage(SEPARATE_BOXES, [[0.0]] * 5, [1.0] * 5, masks=Counting())
    assert rows == [2, 4, 1]
    assert outputs["masks"].equal(all_rows["masks"])
    assert not no_detections["masks"].any()
    assert no_detections["masks"].shape == all_rows["masks"].shape


def test_a_box_without_area_is_kept():
    """The original code drops such boxes only among the proposals."""
    outputs = second_stage([[[5.0, 5, 5, 9]], *SEPARATE_BOXES[:1]], [[0.5], [0.4]], [1.0, 1.0])
    assert outputs["boxes"][0, 0].tolist() == [5, 5, 5, 9]


def test_output_names_follow_from_the_heads():
    assert RoIHead(FixedBoxHead([], []), GreedyNMS(0.5, 1), 0.05).outputs == BOXES
    assert RoIHead(FixedBoxHead([], []), GreedyNMS(0.5, 1), 0.05, ConstantMaskHead()).outputs == MASKS


@pytest.fixture(scope="module")
def maps():
    return pyramid()


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_a_box_head_decodes_and_clips_the_boxes(maps, class_agnostic):
    torch.manual_seed(3)
    head = box_head(STDS[1], class_agnostic)
    head.fc_reg.weight.data *= 50
    with torch.inference_mode():
        boxes, scores = head(maps, REGIONS, SIZES)
        features = head.roi_align(maps, REGIONS).flatten(2)
        for fc in head.shared_fcs:
            features = fc(features).clamp(min=0)
        logits, raw = head.fc_cls(features), head.fc_reg(features)
    torch.testing.assert_close(scores, logits.softmax(-1)[:, :, :CLASSES])
    boxes_per_region = 1 if class_agnostic else CLASSES
    assert boxes.shape == (2, 2, boxes_per_region, 4)
    for c in range(boxes_per_region):  # channel = class * 4 + coordinate
        deltas = raw[..., 4 * c : 4 * c + 4] * torch.tensor(STDS[1])
        torch.testing.assert_close(boxes[:, :, c], clip(decode_deltas(REGIONS, deltas), SIZES))


def test_a_mask_is_that_of_the_label(maps):
    torch.manual_seed(4)
    head, labels = mask_head(), torch.tensor([[2, 0], [1, 1]])
    with torch.inference_mode():
        masks = head(maps, REGIONS, labels)
        by_class = head.conv_logits(head.features(head.roi_align(maps, REGIONS).flatten(0, 1))).sigmoid()
    assert masks.shape == (2, 2, 28, 28)
    for row, label in enumerate(labels.flatten()):
        torch.testing.assert_close(masks.flatten(0, 1)[row], by_class[row, label])
    spread = by_class.amax(1) - by_class.amin(1)
    assert spread.max() > 1e-3, "the masks of all classes are equal"


def test_parameter_names():
    names = set(mask_rcnn().roi_head.state_dict())
    boxes = {f"bbox_head.{layer}" for layer in ("shared_fcs.0", "shared_fcs.1", "fc_cls", "fc_reg")}
    masks = {f"mask_head.{layer}" for layer in ("convs.0.conv", "upsample", "conv_logits")}
    assert names == {f"{layer}.{part}" for layer in boxes | masks for part in ("weight", "bias")}
