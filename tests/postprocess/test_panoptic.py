from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from samebox.core.errors import SameboxError
from samebox.postprocess.detections import detections_from_outputs
from samebox.postprocess.panoptic import class_map, merge_segments
from samebox.record.decoding import Decoding, PanopticRule
from samebox.record.preprocess import Batch, Preprocess, Resize
from samebox.record.spec import METADATA_KEY, Spec

RULE = PanopticRule(("sky", "field", "water"), stuff_area=6)
HEIGHT, WIDTH = 6, 8
NOTHING = np.zeros((HEIGHT, WIDTH), np.uint8)


def rectangle(rows, columns):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def segments(masks, scores, classes=NOTHING, rule=RULE):
    names = [f"object {index}" for index in range(len(masks))]
    stacked = np.array(masks, bool).reshape(-1, HEIGHT, WIDTH)
    return merge_segments(stacked, np.array(scores, np.float32), names, classes, rule)


def areas(panoptic):
    """Class name, whether it is a thing, and pixels of each segment."""
    return [(one.class_name, one.is_thing, int((panoptic.ids == one.id).sum())) for one in panoptic.segments]


@pytest.mark.parametrize("original", [(100, 130), (61, 77), (96, 128)])
def test_class_map_equals_resizing_in_torch(original):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 9, 24, 40, generator=generator)
    canvas = (91, 122)
    whole = F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)
    own = whole[:, :, : canvas[0], : canvas[1]]
    expected = F.interpolate(own, size=original, mode="bilinear", align_corners=False)[0]
    found = class_map(logits[0].numpy(), canvas, *original)
    assert (found.shape, found.dtype) == (original, np.uint8)
    # the classes differ only if two logits are equal except for rounding
    chosen = expected.gather(0, torch.from_numpy(found.astype(np.int64))[None])[0]
    np.testing.assert_allclose(chosen, expected.amax(0), atol=2e-5)
    assert (found == expected.argmax(0).numpy()).mean() > 0.999


def test_the_first_of_equal_classes_is_chosen():
    logits = np.zeros((3, 4, 4), np.float32)
    logits[1:] = 1
    assert (class_map(logits, (16, 16), 16, 16) == 1).all()


def test_the_object_with_the_higher_score_is_on_top():
    upper, lower = rectangle((0, 4), (0, 4)), rectangle((3, 6), (0, 4))
    found = segments([upper, lower], [0.9, 0.8])
    assert areas(found) == [("object 0", True, 16), ("object 1", True, 8)]
    assert (found.ids[3, :4] == 1).all()
    assert [one.score for one in found.segments] == pytest.approx([0.9, 0.8])


@pytest.mark.parametrize(("rows", "kept"), [((2, 6), True), ((1, 5), False)])
def test_an_object_is_dropped_if_more_than_half_of_it_is_hidden(rows, kept):
    """Two of four rows are hidden, or three."""
    found = segments([rectangle((0, 4), (0, 8)), rectangle(rows, (0, 8))], [0.9, 0.8])
    assert ("object 1" in [one.class_name for one in found.segments]) == kept


def test_objects_below_the_score_are_dropped():
    masks = [rectangle((0, 1), (0, 8)), rectangle((1, 2), (0, 8)), rectangle((2, 3), (0, 8))]
    assert areas(segments(masks, [0.9, 0.5, 0.4999])) == [("object 0", True, 8), ("object 1", True, 8)]


def test_an_empty_mask_gets_no_id():
    found = segments([rectangle((0, 0), (0, 0)), rectangle((0, 1), (0, 8))], [0.9, 0.8])
    assert [(one.id, one.class_name) for one in found.segments] == [(1, "object 1")]


def test_stuff_gets_the_pixels_without_an_object_in_the_order_of_classes():
    classes = np.zeros((HEIGHT, WIDTH), np.uint8)
    classes[:3], classes[3:5] = 2, 1
    found = segments([rectangle((0, 1), (0, 8))], [0.9], classes)
    assert areas(found) == [("object 0", True, 8), ("sky", False, 16), ("field", False, 16)]
    assert not found.ids[5].any()  # class 0 is not stuff
    assert found.segments[1].score is None


@pytest.mark.parametrize(("least", "names"), [(5, ["water"]), (6, ["water"]), (7, [])])
def test_stuff_with_too_few_pixels_is_no_segment(least, names):
    classes = np.zeros((HEIGHT, WIDTH), np.uint8)
    classes[0, :6] = 3
    found = segments([], [], classes, replace(RULE, stuff_area=least))
    assert [one.class_name for one in found.segments] == names


def test_a_class_without_pixels_is_no_segment():
    assert segments([], [], rule=replace(RULE, stuff_area=0)).segments == ()


def outputs():
    """Two images on a canvas of 64x64: sky on the left, field on the right, and one object in the first."""
    semantics = np.zeros((2, 4, 16, 16), np.float32)
    semantics[:, 1, :, :8] = semantics[:, 2, :, 8:] = 5
    scores = np.array([[0.9, 0.3], [0, 0]], np.float32)
    boxes = np.zeros((2, 2, 4), np.float32)
    boxes[0] = [[8, 8, 24, 24], [0, 0, 64, 64]]
    return {
        "boxes": boxes,
        "scores": scores,
        "labels": np.array([[1, 0], [0, 0]]),
        "masks": np.ones((2, 2, 28, 28), np.float32),
        "semantics": semantics,
    }


BATCH = Batch(
    np.zeros((2, 3, 64, 64), np.float32), np.array([[64, 48], [64, 64]]), np.array([[128, 96], [64, 64]])
)


def test_segments_have_the_size_of_the_original_image():
    first, second = detections_from_outputs(outputs(), BATCH, ("disc", "ring"), Decoding(panoptic=RULE))
    assert len(first) == 2
    assert first.panoptic.ids.shape == first.panoptic.classes.shape == (128, 96)
    # at twice the size on the canvas: 64 columns of sky, less the ring of 32x32, and 32 columns of field
    assert [
        (one.class_name, int((first.panoptic.ids == one.id).sum())) for one in first.panoptic.segments
    ] == [("ring", 32 * 32), ("sky", 128 * 64 - 32 * 32), ("field", 128 * 32)]
    assert [one.class_name for one in second.panoptic.segments] == ["sky", "field"]
    assert second.panoptic.stuff_class_names == RULE.stuff_class_names


def test_no_segments_without_a_panoptic_rule():
    assert [one.panoptic for one in detections_from_outputs(outputs(), BATCH, ("disc", "ring"))] == [None] * 2


def test_the_number_of_names_must_be_that_of_the_classes():
    rule = PanopticRule(("sky", "field"))
    with pytest.raises(SameboxError, match="2 names for a network with 3 classes of stuff"):
        detections_from_outputs(outputs(), BATCH, ("disc", "ring"), Decoding(panoptic=rule))


def test_the_rule_is_part_of_the_metadata():
    decoding = Decoding(panoptic=replace(RULE, score=0.4))
    rule = Preprocess(Resize((320, 240)))
    spec = Spec("tiny", ("disc",), rule, normalize={}, checkpoint_sha256="0" * 64, decoding=decoding)
    assert Spec.from_metadata({METADATA_KEY: spec.to_json()}, "tiny.onnx").decoding == decoding
