import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from samebox.networks.blocks import roi_align
from samebox.networks.blocks.roi_align import RoIAlign

STRIDES = (4, 8, 16, 32)
HEIGHT, WIDTH = 192, 416


@pytest.fixture(scope="module")
def maps():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, HEIGHT // s, WIDTH // s, generator=generator) for s in STRIDES]


def mmdetection_roi_align(maps, box, image, size):
    """One region, sample by sample, as in MMDetection's operator."""
    x1, y1, x2, y2 = box.tolist()
    level = math.floor(math.log2(math.sqrt((x2 - x1) * (y2 - y1)) / 56 + 1e-6))
    level = min(max(level, 0), len(maps) - 1)
    features = maps[level][image].double().numpy()
    x1, y1, x2, y2 = (value / STRIDES[level] - 0.5 for value in (x1, y1, x2, y2))
    wide, high = (x2 - x1) / size, (y2 - y1) / size
    across, down = math.ceil(wide), math.ceil(high)
    bins = np.zeros((len(features), size, size))
    for row, column, i, j in np.ndindex(size, size, down, across):
        y = y1 + row * high + (i + 0.5) * high / down
        x = x1 + column * wide + (j + 0.5) * wide / across
        bins[:, row, column] += sample(features, y, x) / (across * down)
    return bins


def sample(features, y, x):
    """features [C,H,W] at a point: 0 more than a cell outside, else bilinear, clamped to the border."""
    height, width = features.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    below, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = features[:, top, left] * (left + 1 - x) + features[:, top, right] * (x - left)
    lower = features[:, below, left] * (left + 1 - x) + features[:, below, right] * (x - left)
    return upper * (top + 1 - y) + lower * (y - top)


BOXES = {
    "small": [10.2, 20.7, 17.9, 31.3],
    "medium": [30.5, 40.25, 130.75, 140.5],
    "the whole canvas": [0, 0, WIDTH, HEIGHT],
    "long": [0, 10, WIDTH, 14],
    "tall": [100, 0, 103, HEIGHT],
    "across the left and bottom borders": [-10.5, 50, 60, 300],
    "far outside": [-90, -90, -60, -60],
    "in the corner": [WIDTH - 9, HEIGHT - 7, WIDTH, HEIGHT],
    "a cell": [8, 8, 12, 12],
    "without width": [5, 5, 5, 50],
    "padding row": [0, 0, 0, 0],
}


@pytest.mark.parametrize("size", [7, 14])
def test_result_is_that_of_mmdetection(maps, size):
    boxes = torch.tensor([list(BOXES.values()), list(BOXES.values())[::-1]])
    result = RoIAlign(size, STRIDES)(maps, boxes)
    for image, index in np.ndindex(*boxes.shape[:2]):
        expected = mmdetection_roi_align(maps, boxes[image, index], image, size)
        np.testing.assert_allclose(
            result[image, index], expected, atol=5e-5, err_msg=str(boxes[image, index])
        )


def detectron_roi_align(maps, box, image, size, samples):
    """One region as in maskrcnn-benchmark: at least a cell wide, the level by the inclusive box's area."""
    x1, y1, x2, y2 = box.tolist()
    level = math.floor(4 + math.log2(math.sqrt((x2 - x1 + 1) * (y2 - y1 + 1)) / 224 + 1e-6)) - 2
    level = min(max(level, 0), len(maps) - 1)
    features = maps[level][image].double().numpy()
    x1, y1, x2, y2 = (value / STRIDES[level] for value in (x1, y1, x2, y2))
    wide, high = max(x2 - x1, 1) / size, max(y2 - y1, 1) / size
    bins = np.zeros((len(features), size, size))
    for row, column, i, j in np.ndindex(size, size, samples, samples):
        y, x = y1 + row * high + (i + 0.5) * high / samples, x1 + column * wide + (j + 0.5) * wide / samples
        bins[:, row, column] += sample(features, y, x) / samples**2
    return bins


@pytest.mark.parametrize(("size", "samples"), [(7, 2), (14, 2), (5, 3)])
def test_result_with_fixed_samples_is_that_of_maskrcnn_benchmark(maps, size, samples, monkeypatch):
    monkeypatch.setattr(roi_align, "CELLS", 4 * (2 * size) ** 2 * samples)  # several parts
    boxes = torch.tensor([list(BOXES.values()), list(BOXES.values())[::-1]])
    result = RoIAlign(size, STRIDES, samples, aligned=False, inclusive=True)(maps, boxes)
    for image, index in np.ndindex(*boxes.shape[:2]):
        expected = detectron_roi_align(maps, boxes[image, index], image, size, samples)
        np.testing.assert_allclose(
            result[image, index], expected, atol=5e-5, err_msg=str(boxes[image, index])
        )


class Allocations(TorchDispatchMode):
    """Records the storages that operators allocate within the block."""

    def __init__(self):
        super().__init__()
        self.storages = {}

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        storages = [leaf.untyped_storage() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.storages |= {storage._cdata: storage for storage in storages}
        return result

    def megabytes(self):
        return sum(storage.nbytes() for storage in self.storages.values()) / 2**20


@pytest.mark.parametrize(("count", "size"), [(1000, 7), (100, 14)])
def test_iterations_with_a_fixed_number_of_samples_share_their_memory(count, size, monkeypatch):
    """TensorRT-RTX allocates memory for every tensor outside loops, from 4096 MB by default."""
    loops = []
    monkeypatch.setattr(roi_align, "while_loop", lambda _, body, state: loops.append((body, state)) or state)
    with torch.device("meta"):
        maps = [torch.empty(4, 256, 800 // stride, 1344 // stride) for stride in STRIDES]
        boxes = torch.empty(4, count, 4)
    with Allocations() as outside:
        RoIAlign(size, STRIDES, 2, aligned=False, inclusive=True)(maps, boxes)
    inside = []
    for body, state in loops:
        with Allocations() as allocations:
            body(*state)
        inside.append(allocations.megabytes())
    assert max(inside) > 256  # includes the cells that are read
    assert outside.megabytes() + max(inside) < 2048


@pytest.mark.parametrize("count", [1, 15, 100])
def test_the_result_does_not_depend_on_the_block_size(maps, count, monkeypatch):
    """Block sizes of eager PyTorch and of a graph, with full and partly filled last blocks."""
    corners = torch.rand(2, count, 2) * torch.tensor([WIDTH / 2, HEIGHT / 2])
    boxes = torch.cat([corners, corners + torch.rand(2, count, 2) * 150], 2)
    one_by_one = torch.stack([RoIAlign(7, STRIDES)(maps, boxes[:, i : i + 1])[:, 0] for i in range(count)], 1)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    graph_size = roi_align.block_size(count)
    monkeypatch.undo()
    for size in (8, graph_size):
        monkeypatch.setattr(roi_align, "EAGER_BLOCK", size)
        torch.testing.assert_close(RoIAlign(7, STRIDES)(maps, boxes), one_by_one)
    assert len(range(0, count, graph_size)) <= roi_align.BLOCKS


def test_levels_are_chosen_by_area():
    sides = torch.tensor([1.0, 55, 111.9, 112, 223.9, 224, 447.9, 448, 5000])
    boxes = torch.stack([torch.zeros(9), torch.zeros(9), sides * 2, sides / 2], 1)[None]
    assert RoIAlign(7, STRIDES).levels(boxes).tolist() == [[0, 0, 0, 1, 1, 2, 2, 3, 3]]
    assert RoIAlign(7, STRIDES).levels(torch.zeros(1, 1, 4)).tolist() == [[0]]


def test_maps_beyond_the_strides_are_not_read(maps):
    boxes = torch.tensor([[[0.0, 0, WIDTH, HEIGHT]]] * 2)
    coarser = torch.full((2, 3, 3, 7), torch.nan)
    assert RoIAlign(7, STRIDES)([*maps, coarser], boxes).equal(RoIAlign(7, STRIDES)(maps, boxes))
