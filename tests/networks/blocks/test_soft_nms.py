import numpy as np
import pytest
import torch

from samebox.networks.blocks.soft_nms import SoftNMS

SIGMA, LEAST = 0.5, 0.001


def soft(boxes, scores, labels, count):
    """The definition, one box after the other: (row, score) of each one taken."""
    left, taken = {row: float(score) for row, score in enumerate(scores) if score > 0}, []
    while left and len(taken) < count:
        best = max(left, key=left.get)
        taken.append((best, left.pop(best)))
        for row in list(left):
            if labels[row] == labels[best]:
                left[row] *= np.exp(-(iou(boxes[best], boxes[row]) ** 2) / SIGMA)
            if left[row] < LEAST:
                del left[row]
    return taken


def iou(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = sides.clip(0).prod()
    return common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common)


def crowd(seed, number):
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 60, (number, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(5, 40, (number, 2))], 1).astype(np.float32)
    scores = ((generator.permutation(number) + 1) / (number + 1)).astype(np.float32)
    return boxes, scores, generator.integers(0, 2, number)


@pytest.mark.parametrize(("number", "count"), [(80, 10), (80, 100), (3, 5)])
def test_each_image_by_the_definition(number, count):
    images = [crowd(seed, number) for seed in range(3)]
    images[1][1][number // 2 :] = 0
    stacked = (torch.from_numpy(np.stack(field)) for field in zip(*images, strict=True))
    found = [out.numpy() for out in SoftNMS(SIGMA, LEAST, count)(*stacked)]
    for index, (boxes, scores, labels) in enumerate(images):
        rows, values = zip(*soft(boxes, scores, labels, count), strict=True)
        got_boxes, got_scores, got_labels = (field[index] for field in found)
        np.testing.assert_array_equal(got_boxes[: len(rows)], boxes[list(rows)])
        np.testing.assert_allclose(got_scores[: len(rows)], values, rtol=1e-5)
        np.testing.assert_array_equal(got_labels[: len(rows)], labels[list(rows)])
        assert not got_boxes[len(rows) :].any()
        assert not got_scores[len(rows) :].any()


def test_a_box_that_falls_below_the_least_score_is_dropped():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]]])
    _, scores, _ = SoftNMS(SIGMA, 0.1, 3)(boxes, torch.tensor([[0.9, 0.5, 0.05]]), torch.zeros(1, 3).long())
    assert scores[0].tolist() == pytest.approx([0.9, 0, 0])  # 0.5 / e² = 0.07
