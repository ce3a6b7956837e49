import pytest
import torch
from tiny_rcnn import (
    CLASSES,
    FOUND,
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
FORMS = {"boxes": (4,), "scores": (), "labels": (), "masks": (28, 28)}


@pytest.fixture(scope="module", params=[mask_rcnn, cascade_mask_rcnn], ids=["Mask", "Cascade Mask"])
def network(request):
    return request.param()


@pytest.fixture(scope="module")
def images():
    """Three images of different sizes on one canvas, zero around them as normalisation leaves it."""
    images = torch.randn(3, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    for image, (height, width) in zip(images, MIXED, strict=True):
        image[:, height:] = 0
        image[:, :, width:] = 0
    return images


def answered(network, images, sizes=MIXED):
    with torch.inference_mode():
        return network(images, torch.tensor(sizes))


@pytest.fixture(scope="module")
def answer(network, images):
    return answered(network, images)


def test_form_of_the_answer(answer):
    assert {name: tuple(value.shape) for name, value in answer.items()} == {
        name: (3, FOUND, *form) for name, form in FORMS.items()
    }
    assert answer["labels"].dtype == torch.int64
    scores, masks = answer["scores"], answer["masks"]
    assert (scores.diff(dim=1) <= 0).all()
    assert ((scores == 0) | (scores > 0.05)).all()
    assert ((masks >= 0) & (masks <= 1)).all()
    assert masks[scores > 0].flatten(1).any(1).all()
    assert (answer["labels"] < CLASSES).all()


def test_boxes_lie_within_their_own_image(answer):
    for boxes, (height, width) in zip(answer["boxes"], MIXED, strict=True):
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height])).all()


def test_what_the_heads_say_leads_to_the_answer(network, images, answer):
    with torch.inference_mode():
        heads = network.heads(images, torch.tensor(MIXED))
    assert tuple(heads) == network.head_outputs
    assert heads["objectness_4"].shape == (3, 3, 32, 32)
    assert heads["deltas_64"].shape == (3, 12, 2, 2)
    boxes, scores = heads["boxes"], heads["class_logits"].softmax(2)[..., :-1]
    real = heads["proposal_scores"][..., None] > 0
    wanted = torch.where(real & (scores > 0.05), scores, 0.0).flatten(1)
    labels = torch.arange(CLASSES).expand_as(scores).flatten(1)
    found = network.roi_head.nms(boxes.expand(-1, -1, CLASSES, -1).flatten(1, 2), wanted, labels)
    for name, value in zip(BOXES, found, strict=True):
        torch.testing.assert_close(value, answer[name])


@pytest.mark.parametrize("index", range(3))
def test_an_image_of_a_batch_gives_what_it_gives_alone(network, images, answer, index):
    alone = answered(network, images[index : index + 1], MIXED[index : index + 1])
    assert (alone["scores"] > 0).sum() > 3
    for name, value in alone.items():
        torch.testing.assert_close(answer[name][index : index + 1], value, rtol=1e-5, atol=1e-4)


def test_an_image_of_nothing_but_background_gives_nothing(network, images):
    heads = [module for module in network.modules() if hasattr(module, "fc_cls")]
    biases = [head.fc_cls.bias.data.clone() for head in heads]
    for head in heads:
        head.fc_cls.bias.data[-1] = 1e4
    found = answered(network, images)
    for head, bias in zip(heads, biases, strict=True):
        head.fc_cls.bias.data = bias
    assert found.keys() == FORMS.keys()
    assert not any(value.any() for value in found.values())


def test_an_image_without_area_gives_nothing(network, images, answer):
    found = answered(network, images, [MIXED[0], [0, 0], MIXED[2]])
    assert not any(value[1].any() for value in found.values())
    torch.testing.assert_close(found["scores"][[0, 2]], answer["scores"][[0, 2]])


class Said(nn.Module):
    """A box head that says what it is told to."""

    def __init__(self, boxes, scores):
        super().__init__()
        self.boxes, self.scores = torch.tensor(boxes), torch.tensor(scores)

    def forward(self, maps, boxes, sizes):
        return self.boxes[None], self.scores[None]


class Filled(nn.Module):
    """A mask head whose masks are full everywhere, of the label."""

    def forward(self, maps, boxes, labels):
        return labels[..., None, None].expand(-1, -1, 2, 2) + 1.0


def second_stage(boxes, scores, objectness, count=4, masks=None):
    head = RoIHead(Said(boxes, scores), GreedyNMS(0.5, count), 0.05, masks)
    return head([], torch.zeros(1, len(scores), 4), torch.tensor([objectness]), torch.tensor([[99, 99]]))


APART = [[[10.0 * i, 0.0, 10.0 * i + 8, 8.0]] for i in range(5)]


def test_each_pair_of_proposal_and_class_is_a_candidate():
    boxes = [[[0.0, 0, 8, 8], [20.0, 0, 28, 8]], [[40.0, 0, 48, 8], [60.0, 0, 68, 8]]]
    found = second_stage(boxes, [[0.3, 0.6], [0.05, 0.5]], [0.9, 0.8])
    assert found["labels"].tolist() == [[1, 1, 0, 0]]
    torch.testing.assert_close(found["scores"], torch.tensor([[0.6, 0.5, 0.3, 0.0]]))  # 0.05 is not above
    assert found["boxes"][0, :, 0].tolist() == [20, 60, 0, 0]


def test_a_box_of_no_class_of_its_own_serves_all():
    found = second_stage(APART[:1], [[0.3, 0.6]], [0.9])
    assert found["labels"].tolist() == [[1, 0, 0, 0]]
    assert found["boxes"].tolist() == [[[0, 0, 8, 8], [0, 0, 8, 8], [0] * 4, [0] * 4]]


def test_more_objects_than_are_wanted():
    found = second_stage(APART, [[0.5], [0.9], [0.6], [0.8], [0.7]], [1.0] * 5, count=3)
    torch.testing.assert_close(found["scores"], torch.tensor([[0.9, 0.8, 0.7]]))


def test_a_row_without_a_proposal_finds_nothing_whatever_its_score():
    found = second_stage(APART, [[0.5]] * 5, [1.0, 1.0, 0.0, 0.0, 0.0], masks=Filled())
    assert (found["scores"] > 0).sum() == 2
    assert found["masks"][0].flatten(1).any(1).tolist() == [True, True, False, False]


def test_masks_are_asked_for_as_many_rows_as_are_taken_or_all_as_in_a_graph():
    class Counting(Filled):
        def forward(self, maps, boxes, labels):
            asked.append(labels.shape[1])
            return super().forward(maps, boxes, labels)

    asked = []
    found = second_stage(APART, [[0.5]] * 5, [1.0, 1.0, 0.0, 0.0, 0.0], masks=Counting())
    with compute_padding_rows():
        whole = second_stage(APART, [[0.5]] * 5, [1.0, 1.0, 0.0, 0.0, 0.0], masks=Counting())
    nothing = second_stage(APART, [[0.0]] * 5, [1.0] * 5, masks=Counting())
    assert asked == [2, 4, 1]
    assert found["masks"].equal(whole["masks"])
    assert not nothing["masks"].any()
    assert nothing["masks"].shape == whole["masks"].shape


def test_a_box_that_clipping_left_empty_stays():
    """The original code drops such boxes among the proposals alone."""
    found = second_stage([[[5.0, 5, 5, 9]], *APART[:1]], [[0.5], [0.4]], [1.0, 1.0])
    assert found["boxes"][0, 0].tolist() == [5, 5, 5, 9]


def test_outputs_follow_from_the_heads():
    assert RoIHead(Said([], []), GreedyNMS(0.5, 1), 0.05).outputs == BOXES
    assert RoIHead(Said([], []), GreedyNMS(0.5, 1), 0.05, Filled()).outputs == MASKS


@pytest.fixture(scope="module")
def maps():
    return pyramid()


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_a_box_head_moves_and_clips_the_boxes(maps, class_agnostic):
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
    own = 1 if class_agnostic else CLASSES
    assert boxes.shape == (2, 2, own, 4)
    for c in range(own):  # channel = class * 4 + coordinate
        deltas = raw[..., 4 * c : 4 * c + 4] * torch.tensor(STDS[1])
        torch.testing.assert_close(boxes[:, :, c], clip(decode_deltas(REGIONS, deltas), SIZES))


def test_a_mask_is_the_label_s_own(maps):
    torch.manual_seed(4)
    head, labels = mask_head(), torch.tensor([[2, 0], [1, 1]])
    with torch.inference_mode():
        found = head(maps, REGIONS, labels)
        every = head.conv_logits(head.features(head.roi_align(maps, REGIONS).flatten(0, 1))).sigmoid()
    assert found.shape == (2, 2, 28, 28)
    for row, label in enumerate(labels.flatten()):
        torch.testing.assert_close(found.flatten(0, 1)[row], every[row, label])
    spread = every.amax(1) - every.amin(1)
    assert spread.max() > 1e-3, "the classes' masks are alike: the case shows nothing"


def test_names_of_the_parameters():
    names = set(mask_rcnn().roi_head.state_dict())
    boxes = {f"bbox_head.{layer}" for layer in ("shared_fcs.0", "shared_fcs.1", "fc_cls", "fc_reg")}
    masks = {f"mask_head.{layer}" for layer in ("convs.0.conv", "upsample", "conv_logits")}
    assert names == {f"{layer}.{part}" for layer in boxes | masks for part in ("weight", "bias")}
