import numpy as np
import pytest

from samebox.core.errors import SameboxError
from samebox.postprocess.detections import detections_from_outputs
from samebox.postprocess.keypoints import keypoints_from_heatmaps
from samebox.postprocess.masks import paste_sampled
from samebox.record.decoding import Decoding
from samebox.record.preprocess import Batch

NAMES = ("disc", "ring")


@pytest.fixture
def batch():
    """Two images: the first enlarged twofold in x and threefold in y, the second halved."""
    sizes, originals = np.array([[60, 40], [50, 100]]), np.array([[20, 20], [100, 200]])
    return Batch(np.zeros((2, 3, 64, 128), np.float32), sizes, originals)


@pytest.fixture
def outputs():
    return {
        "boxes": np.array(
            [[[4, 6, 40, 60], [2, 3, 8, 9], [0] * 4], [[1, 2, 3, 4], [0] * 4, [0] * 4]], np.float32
        ),
        "scores": np.array([[0.9, 0.4, 0], [0.3, 0, 0]], np.float32),
        "labels": np.array([[1, 0, 0], [1, 0, 0]]),
    }


def test_boxes_are_scaled_by_a_factor_for_x_and_one_for_y(outputs, batch):
    first, second = detections_from_outputs(outputs, batch, NAMES)
    np.testing.assert_allclose(first.boxes, [[2, 2, 20, 20], [1, 1, 4, 3]], rtol=1e-6)
    np.testing.assert_allclose(second.boxes, [[2, 4, 6, 8]], rtol=1e-6)
    assert first.boxes.dtype == np.float32


def test_padding_rows_are_dropped(outputs, batch):
    first, second = detections_from_outputs(outputs, batch, NAMES)
    assert (len(first), len(second)) == (2, 1)
    np.testing.assert_array_equal(first.scores, np.array([0.9, 0.4], np.float32))
    assert first.labels.tolist() == [1, 0]
    assert second.labels.tolist() == [1]
    assert first.class_names == NAMES
    assert first.masks is None


def test_an_image_without_detections(outputs, batch):
    outputs["scores"][:] = 0
    for found in detections_from_outputs(outputs, batch, NAMES):
        assert len(found) == 0
        assert found.boxes.shape == (0, 4)
        assert found.labels.shape == (0,)


def test_the_arrays_of_the_runtime_are_not_modified(outputs, batch):
    before = {name: value.copy() for name, value in outputs.items()}
    detections_from_outputs(outputs, batch, NAMES)
    for name, value in outputs.items():
        np.testing.assert_array_equal(value, before[name])


def test_masks_have_the_size_of_each_image(outputs, batch):
    outputs["masks"] = np.random.default_rng(0).random((2, 3, 28, 28), np.float32)
    for index, found in enumerate(detections_from_outputs(outputs, batch, NAMES)):
        height, width = batch.originals[index]
        assert (found.masks.shape, found.masks.dtype) == ((len(found), height, width), np.bool_)
        expected = paste_sampled(outputs["masks"][index, : len(found)], found.boxes, height, width)
        np.testing.assert_array_equal(found.masks, expected)
        assert 0 < expected.sum() < expected.size


def test_masks_of_ones_fill_their_boxes(outputs, batch):
    outputs["masks"] = np.ones((2, 3, 28, 28), np.float32)
    first, second = detections_from_outputs(outputs, batch, NAMES)
    rows, columns = np.nonzero(first.masks[0])  # the box 2 2 20 20
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 19, 2, 19)
    assert second.masks.sum() == 4 * 4  # the box 2 4 6 8


def test_masks_of_an_image_without_detections_have_its_size(outputs, batch):
    outputs["scores"][:] = 0
    outputs["masks"] = np.zeros((2, 3, 28, 28), np.float32)
    shapes = [found.masks.shape for found in detections_from_outputs(outputs, batch, NAMES)]
    assert shapes == [(0, 20, 20), (0, 100, 200)]


def test_a_network_without_boxes_gets_the_boxes_around_its_masks(batch):
    masks = np.zeros((2, 2, 16, 32), np.float32)
    masks[0, 0, 3:9, 2:5] = 1  # canvas rows 12..36 and columns 8..20
    scores, labels = np.array([[0.9, 0], [0, 0]], np.float32), np.array([[1, 0], [0, 0]])
    first, second = detections_from_outputs(
        {"scores": scores, "labels": labels, "masks": masks}, batch, NAMES
    )
    np.testing.assert_allclose(first.boxes, [[4, 4, 10, 12]])
    assert first.masks.shape == (1, 20, 20)
    assert first.masks[0, 4:12, 4:10].all()
    assert first.masks.sum() == 48
    assert second.boxes.shape == (0, 4)
    assert second.masks.shape == (0, 100, 200)


def test_keypoints_are_decoded_on_the_canvas_and_scaled_like_boxes(outputs, batch):
    """The sides of a box are rounded up on the canvas, not in the original image."""
    outputs["keypoints"] = np.random.default_rng(0).standard_normal((2, 3, 5, 56, 56)).astype(np.float32)
    for rule in ("ratio", "logit"):
        found = detections_from_outputs(outputs, batch, NAMES, Decoding(keypoints=rule))
        for index, (one, factor) in enumerate(zip(found, ([2, 3], [0.5, 0.5]), strict=True)):
            rows = outputs["keypoints"][index, : len(one)], outputs["boxes"][index, : len(one)]
            expected = keypoints_from_heatmaps(*rows, rule)
            np.testing.assert_allclose(one.keypoints[..., :2] * factor, expected[..., :2], rtol=1e-6)
            np.testing.assert_array_equal(one.keypoints[..., 2], expected[..., 2])
            x, y = one.keypoints[..., 0], one.keypoints[..., 1]
            x1, y1, x2, y2 = one.boxes.T[:, :, None]
            assert ((x1 < x) & (x < x2) & (y1 < y) & (y < y2)).all()
            assert one.masks is None


def test_an_image_without_detections_has_no_keypoints(outputs, batch):
    outputs["scores"][:] = 0
    outputs["keypoints"] = np.zeros((2, 3, 17, 56, 56), np.float32)
    assert [found.keypoints.shape for found in detections_from_outputs(outputs, batch, NAMES)] == [
        (0, 17, 3),
        (0, 17, 3),
    ]


def test_an_unknown_keypoint_score_is_an_error():
    with pytest.raises(SameboxError, match=r"decoding\.keypoints: 'sum' is not one of ratio, logit"):
        Decoding(keypoints="sum")


def test_inclusive_is_that_of_the_decoding_rule(outputs, batch):
    for inclusive in (False, True):
        found = detections_from_outputs(outputs, batch, NAMES, Decoding(inclusive=inclusive))
        assert [one.inclusive for one in found] == [inclusive] * 2
        np.testing.assert_allclose(found[1].boxes, [[2, 4, 6, 8]], rtol=1e-6)
