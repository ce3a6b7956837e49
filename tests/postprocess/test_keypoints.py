"""Keypoints against PyTorch's bicubic interpolation, and against one written out here."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from samebox.postprocess.keypoints import (
    PERSON_KEYPOINTS,
    SKELETON,
    keypoint_distances,
    keypoints_from_heatmaps,
)

SIDE = 56
BOXES = np.array(
    [
        [10.25, 20.5, 73.75, 190.25],
        [0, 0, 640, 480],  # whole pixels
        [3.5, 4, 43.1, 30.9],  # smaller than its map
        [100, 50, 100.4, 50.2],  # less than a pixel
        [7, 9, 6, 8],  # x2 < x1 and y2 < y1, as in maskrcnn-benchmark's boxes
        [5.3, 2.1, 61.3, 312.1],
        [0, 0, 112, 112],  # twice the size of its map: pixels are symmetric around its values
        [30.1, 40.7, 31.1, 700.2],
    ],
    np.float32,
)


def logits(kind, points=4):
    """Maps [N,points,SIDE,SIDE]: noise, smooth noise (hills), or one peak each, some at the edge."""
    count, drawn = len(BOXES), np.random.default_rng(1)
    if kind == "noise":
        return drawn.standard_normal((count, points, SIDE, SIDE)).astype(np.float32)
    if kind == "hills":
        coarse = torch.from_numpy(drawn.standard_normal((count, points, 9, 9)) * 5)
        return F.interpolate(coarse, size=SIDE, mode="bilinear").float().numpy()
    rows, columns = np.mgrid[:SIDE, :SIDE]
    x, y = drawn.uniform(-3, SIDE + 2, (2, count, points, 1, 1)).clip(0, SIDE - 1)
    peaks = 15 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 6) - 8
    return (peaks + 0.01 * drawn.standard_normal(peaks.shape)).astype(np.float32)


def enlarged(maps, boxes):
    """The maps [P,SIDE,SIDE] of each box at its size in whole pixels, by PyTorch."""
    for values, (x1, y1, x2, y2) in zip(torch.from_numpy(maps), torch.from_numpy(boxes), strict=True):
        width, height = max(x2 - x1, torch.tensor(1.0)), max(y2 - y1, torch.tensor(1.0))
        size = int(height.ceil()), int(width.ceil())
        yield F.interpolate(values[None], size=size, mode="bicubic", align_corners=False)[0], width, height


def expected(maps, boxes):
    """x, y, the highest logit and its ratio of each keypoint, from the whole enlarged map."""
    found = np.empty((*maps.shape[:2], 4), np.float64)
    for index, (whole, width, height) in enumerate(enlarged(maps, boxes)):
        for point, pixels in enumerate(whole):
            row, column = divmod(int(pixels.argmax()), pixels.shape[1])
            highest = pixels.max()
            found[index, point] = (
                (column + 0.5) * float(width) / pixels.shape[1] + boxes[index, 0],
                (row + 0.5) * float(height) / pixels.shape[0] + boxes[index, 1],
                highest,
                (highest - torch.from_numpy(maps[index, point]).double().logsumexp((0, 1))).exp(),
            )
    return found


@pytest.mark.parametrize("kind", ["noise", "hills", "peaks"])
def test_a_keypoint_is_the_highest_pixel_of_its_enlarged_map(kind):
    maps = logits(kind)
    wanted = expected(maps, BOXES)
    by_logit, by_ratio = (
        keypoints_from_heatmaps(maps, BOXES, "logit"),
        keypoints_from_heatmaps(maps, BOXES, "ratio"),
    )
    assert by_logit.dtype == by_ratio.dtype == np.float32
    np.testing.assert_allclose(by_logit[..., :2], wanted[..., :2], atol=1e-3)
    np.testing.assert_allclose(by_ratio[..., :2], wanted[..., :2], atol=1e-3)
    np.testing.assert_allclose(by_logit[..., 2], wanted[..., 2], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(by_ratio[..., 2], wanted[..., 3], rtol=1e-3)


def test_the_higher_of_two_nearly_equal_peaks_is_found():
    """The heights differ by a thousandth; the peaks are adjacent or far apart."""
    drawn = np.random.default_rng(2)
    maps = np.zeros((60, 1, SIDE, SIDE), np.float32)
    places = drawn.integers(1, SIDE // 4, (60, 2, 2)) * 4  # not at the edge, where values repeat
    for values, (low, high) in zip(maps[:, 0], places, strict=True):
        values[tuple(low)] = 9.99
        values[tuple(high)] = 10
    boxes = np.tile(np.array([[0, 0, 3 * SIDE, 5 * SIDE]], np.float32), (60, 1))
    found = keypoints_from_heatmaps(maps, boxes, "logit")[:, 0]
    # the centre of the 3x5 pixels of the higher value
    np.testing.assert_allclose(found[:, 0], 3 * places[:, 1, 1] + 1.5, atol=1e-4)
    np.testing.assert_allclose(found[:, 1], 5 * places[:, 1, 0] + 2.5, atol=1e-4)
    np.testing.assert_allclose(found[:, 2], 10, atol=1e-4)


def cubic(distance):
    """The weight of a value at a distance, in cells: Keys' kernel with a = -0.75."""
    d = abs(distance)
    if d <= 1:
        return 1.25 * d**3 - 2.25 * d**2 + 1
    return -0.75 * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def by_hand(values, length):
    """Values [S] → interpolated pixels [length]; the end values repeat beyond the ends."""
    pixels = []
    for pixel in range(length):
        at = (pixel + 0.5) * len(values) / length - 0.5
        near = range(int(np.floor(at)) - 1, int(np.floor(at)) + 3)
        pixels.append(sum(cubic(at - i) * values[min(max(i, 0), len(values) - 1)] for i in near))
    return np.array(pixels)


def test_a_keypoint_equals_interpolation_by_hand():
    values = np.random.default_rng(3).standard_normal((6, 6)).astype(np.float32)
    box = np.array([[2, 3, 19.5, 14.25]], np.float32)  # 18 x 12 pixels
    whole = np.array([by_hand(row, 18) for row in values])
    whole = np.array([by_hand(column, 12) for column in whole.T]).T
    row, column = np.unravel_index(whole.argmax(), whole.shape)
    found = keypoints_from_heatmaps(values[None, None], box, "logit")[0, 0]
    assert found.tolist() == pytest.approx(
        [2 + (column + 0.5) * 17.5 / 18, 3 + (row + 0.5) * 11.25 / 12, whole.max()], rel=1e-5
    )


def test_a_ratio_may_exceed_one():
    """A pixel between two equal values is higher than either."""
    values = np.full((1, 1, 4, 4), -50, np.float32)
    values[0, 0, 1, 1:3] = 10
    found = keypoints_from_heatmaps(values, np.array([[0, 0, 20, 20]], np.float32), "ratio")
    assert found[0, 0, 2] > 1


@pytest.mark.filterwarnings("error")
def test_large_logits_do_not_overflow():
    """A map shrunk to one pixel loses its peak, and the ratio is 0. A map that overshoots has a sum of 0, and
    its ratio is finite.
    """
    values = np.full((1, 2, SIDE, SIDE), -2000, np.float32)
    values[0, 0, 0, 0] = values[0, 1, 30, 30] = 2000
    small, large = (np.array([[0, 0, side, side]], np.float32) for side in (1, 200))
    assert keypoints_from_heatmaps(values, small, "ratio")[0, :, 2].tolist() == [0, 0]
    found = keypoints_from_heatmaps(values, large, "ratio")[0, :, 2]
    assert np.isfinite(found).all()
    assert found[0] > 1e30


def test_a_constant_map_has_its_keypoint_in_the_box():
    found = keypoints_from_heatmaps(np.zeros((1, 1, SIDE, SIDE), np.float32), BOXES[:1], "logit")[0, 0]
    assert 10.25 < found[0] < 73.75
    assert 20.5 < found[1] < 190.25
    assert found[2] == 0


def test_no_boxes_give_no_keypoints():
    found = keypoints_from_heatmaps(
        np.zeros((0, 17, SIDE, SIDE), np.float32), np.zeros((0, 4), np.float32), "ratio"
    )
    assert found.shape == (0, 17, 3)


def test_the_maps_are_not_modified():
    maps = logits("peaks")
    before = maps.copy()
    keypoints_from_heatmaps(maps, BOXES, "ratio")
    np.testing.assert_array_equal(maps, before)


def test_the_distance_is_the_median_over_the_keypoints():
    a = np.zeros((2, 3, 3), np.float32)
    b = a.copy()
    b[0, :, 0], b[0, :, 1] = [3, 6, 60], [4, 8, 80]  # 5, 10 and 100 pixels
    b[1, 0] = 1000, 0, 1000  # one keypoint far off
    assert keypoint_distances(a, b).tolist() == [10, 0]
    assert keypoint_distances(a[:, None], b).tolist() == [[10, 0], [10, 0]]


def test_the_skeleton_has_cocos_17_keypoints_and_19_limbs():
    assert {point for limb in SKELETON for point in limb} == set(range(PERSON_KEYPOINTS))
    assert len({frozenset(limb) for limb in SKELETON}) == 19  # the number in COCO


def test_nan_in_a_map_affects_only_its_own_keypoint():
    """A network at half precision may return NaN after an overflow."""
    maps = logits("peaks")
    expected = keypoints_from_heatmaps(maps, BOXES, "logit")
    maps[2, 1, 5, 7] = np.nan
    found = keypoints_from_heatmaps(maps, BOXES, "logit")
    assert np.isnan(found[2, 1, 2])
    expected[2, 1] = found[2, 1] = 0
    np.testing.assert_array_equal(found, expected)
