import numpy as np
import pytest
import torch
from torch.nn.functional import grid_sample, interpolate

from samebox.postprocess.masks import boxes_around, mask_iou, masks_from_canvas, paste_resized, paste_sampled

HEIGHT, WIDTH = 60, 80

ORDINARY = [[10.3, 5.7, 50.1, 44.9], [0, 0, 80, 60], [20, 10, 48, 38], [33.5, 12.5, 71.5, 55.5]]
LEAVING = [[-30, -20, 25, 30], [60, 40, 300, 90], [-50, -50, 200, 150], [-40, 5, -3, 30], [90, 70, 120, 99]]
TINY = [[40.2, 30.3, 40.6, 30.7], [40.5, 30.5, 41.5, 31.5], [12, 12, 13, 40], [79.9, 59.9, 80, 60]]
WITHOUT_EXTENT = [
    [40, 10, 40, 50],
    [40.5, 10, 40.5, 50],
    [10, 30, 70, 30],
    [40, 30, 40, 30],
    [80, 10, 80, 50],
]


def maps(count, side, seed=0):
    """Smooth blobs, some of which touch the edges, with values from 0 to 1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 1, 5, 5, generator=generator) * 6
    fine = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    return fine.sigmoid()[:, 0].numpy()


def sampled(probabilities, boxes):
    """The values [N,H,W] that MMDetection compares with 0.5, by `grid_sample` over the whole image."""
    x1, y1, x2, y2 = torch.from_numpy(boxes).T[:, :, None]
    x = (torch.arange(WIDTH, dtype=torch.float32) + 0.5 - x1) / (x2 - x1) * 2 - 1
    y = (torch.arange(HEIGHT, dtype=torch.float32) + 0.5 - y1) / (y2 - y1) * 2 - 1
    x[x.isinf()], y[y.isinf()] = 0, 0
    shape = (len(boxes), HEIGHT, WIDTH)
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], -1)
    values = grid_sample(torch.from_numpy(probabilities)[:, None], grid, align_corners=False)
    return values[:, 0].numpy()


def pixels_computed(boxes):
    """The pixels [N,H,W] that MMDetection computes for each box on the CPU."""
    x1, y1, x2, y2 = boxes.T[:, :, None]
    x, y = np.arange(WIDTH), np.arange(HEIGHT)
    columns = (x >= np.floor(x1) - 1) & (x < np.ceil(x2) + 1)
    rows = (y >= np.floor(y1) - 1) & (y < np.ceil(y2) + 1)
    return rows[:, :, None] & columns[:, None, :]


def assert_masks_match(masks, values):
    unclear = abs(values - 0.5) < 1e-6
    assert unclear.mean() < 0.001
    np.testing.assert_array_equal(masks[~unclear], values[~unclear] >= 0.5)


@pytest.mark.parametrize("side", [28, 224])
@pytest.mark.parametrize("boxes", [ORDINARY, LEAVING, TINY], ids=["ordinary", "leaving", "tiny"])
def test_masks_equal_grid_sample_on_the_whole_image(boxes, side):
    boxes, probabilities = np.array(boxes, np.float32), maps(len(boxes), side)
    masks = paste_sampled(probabilities, boxes, HEIGHT, WIDTH)
    assert (masks.shape, masks.dtype) == ((len(boxes), HEIGHT, WIDTH), np.bool_)
    assert_masks_match(masks, sampled(probabilities, boxes))


@pytest.mark.parametrize("side", [28, 224])
def test_many_random_boxes(side):
    corners = np.random.default_rng(side).uniform(-30, 110, (200, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1).astype(np.float32)
    probabilities = maps(200, side, seed=side)
    masks = paste_sampled(probabilities, boxes, HEIGHT, WIDTH)
    assert 0.02 < masks.mean() < 0.5
    assert_masks_match(masks, sampled(probabilities, boxes))


@pytest.mark.parametrize("side", [28, 224])
def test_a_box_without_extent_gets_the_middle_of_its_map_beside_it_as_in_mmdetection(side):
    boxes = np.array(WITHOUT_EXTENT, np.float32)
    probabilities = np.full((len(boxes), side, side), 0.9, np.float32)
    with np.errstate(all="raise"):
        masks = paste_sampled(probabilities, boxes, HEIGHT, WIDTH)
    # a pixel whose centre is on the line is 0 / 0 and belongs to no mask
    expected = np.nan_to_num(sampled(probabilities, boxes)) * pixels_computed(boxes)
    assert_masks_match(masks, expected)
    assert masks[0].any(0).nonzero()[0].tolist() == [39, 40]


def test_a_map_of_ones_fills_the_pixels_whose_centres_are_in_the_box():
    boxes = np.array([[10, 20, 14, 23], [10.6, 20.4, 14.4, 23.6]], np.float32)
    masks = paste_sampled(np.ones((2, 28, 28), np.float32), boxes, HEIGHT, WIDTH)
    expected = np.zeros((2, HEIGHT, WIDTH), bool)
    expected[0, 20:23, 10:14] = True
    expected[1, 20:24, 11:14] = True
    np.testing.assert_array_equal(masks, expected)


def test_the_threshold_is_at_least_one_half():
    boxes = np.array([[16, 16, 48, 48]] * 2, np.float32)  # one pixel per cell, so nothing is rounded
    probabilities = np.full((2, 32, 32), 0.5, np.float32)
    probabilities[1] = np.nextafter(np.float32(0.5), np.float32(0))
    masks = paste_sampled(probabilities, boxes, HEIGHT, WIDTH)
    assert masks[0, 16:48, 16:48].all()
    assert masks.sum() == 32 * 32


def test_no_boxes_give_no_masks():
    masks = paste_sampled(np.zeros((0, 28, 28), np.float32), np.zeros((0, 4), np.float32), HEIGHT, WIDTH)
    assert masks.shape == (0, HEIGHT, WIDTH)


def test_masks_are_stored_column_by_column():
    masks = paste_sampled(maps(2, 28), np.array(ORDINARY[:2], np.float32), HEIGHT, WIDTH)
    assert masks.transpose(0, 2, 1).flags.c_contiguous


def test_mask_iou_is_intersection_over_union():
    a, b = np.zeros((3, 4, 5), bool), np.zeros((3, 4, 5), bool)
    a[0, :2], b[0, 1:] = True, True
    a[1, 0, 0] = True
    np.testing.assert_array_equal(mask_iou(a, b), [5 / 20, 0, 1])
    assert mask_iou(a[:0], b[:0]).shape == (0,)


def test_masks_over_a_canvas_are_resized_as_in_solo():
    probabilities = maps(3, 24)[:, :, :20]
    own, original = (70, 61), (105, 93)
    x = torch.nn.functional.interpolate(
        torch.from_numpy(probabilities)[None], size=(96, 80), mode="bilinear", align_corners=False
    )[:, :, : own[0], : own[1]]
    values = torch.nn.functional.interpolate(x, size=original, mode="bilinear", align_corners=False)[0]
    unclear = (values - 0.5).abs().numpy() < 1e-5
    found = masks_from_canvas(probabilities, own, *original)
    assert found.shape == (3, *original)
    assert unclear.mean() < 0.001
    np.testing.assert_array_equal(found[~unclear], (values.numpy() > 0.5)[~unclear])


def test_no_maps_over_a_canvas_give_no_masks():
    assert masks_from_canvas(np.zeros((0, 8, 8), np.float32), (32, 32), 50, 40).shape == (0, 50, 40)


def test_boxes_around_masks_enclose_their_pixels():
    masks = np.zeros((3, 6, 8), bool)
    masks[0, 2:5, 3:7] = True
    masks[1, 5, 7] = True
    np.testing.assert_array_equal(boxes_around(masks), [[3, 2, 7, 5], [7, 5, 8, 6], [0, 0, 0, 0]])


def pasted_by_maskrcnn_benchmark(probabilities, box):
    """One mask [H,W] as maskrcnn-benchmark pastes it, step by step in PyTorch."""
    side = probabilities.shape[-1]
    padded = torch.zeros(side + 2, side + 2)
    padded[1:-1, 1:-1] = torch.from_numpy(probabilities)
    x1, y1, x2, y2 = torch.from_numpy(box)
    half_width, half_height = (x2 - x1) * 0.5 * ((side + 2) / side), (y2 - y1) * 0.5 * ((side + 2) / side)
    x, y = (x1 + x2) * 0.5, (y1 + y2) * 0.5
    corners = torch.stack([x - half_width, y - half_height, x + half_width, y + half_height])
    x1, y1, x2, y2 = corners.to(torch.int32).tolist()
    size = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
    values = interpolate(padded[None, None], size=size, mode="bilinear", align_corners=False)[0, 0].numpy()
    canvas = np.zeros((HEIGHT, WIDTH), np.float32)
    for row, column in np.ndindex(*size):
        if 0 <= y1 + row < HEIGHT and 0 <= x1 + column < WIDTH:
            canvas[y1 + row, x1 + column] = values[row, column]
    return canvas


@pytest.mark.parametrize("boxes", [ORDINARY, LEAVING, TINY], ids=["ordinary", "leaving", "tiny"])
def test_masks_resized_to_whole_pixels_equal_maskrcnn_benchmark(boxes):
    boxes, probabilities = np.array(boxes, np.float32), maps(len(boxes), 28)
    masks = paste_resized(probabilities, boxes, HEIGHT, WIDTH)
    assert masks.shape == (len(boxes), HEIGHT, WIDTH)
    for mask, values, box in zip(masks, probabilities, boxes, strict=True):
        expected = pasted_by_maskrcnn_benchmark(values, box)
        unclear = abs(expected - 0.5) < 1e-5
        np.testing.assert_array_equal(mask[~unclear], expected[~unclear] > 0.5)
    assert masks[0].any()
