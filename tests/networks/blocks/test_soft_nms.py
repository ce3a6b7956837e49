import numpy as np
import pytest
import torch

from samebox.networks.blocks.soft_nms import SoftNMS

SIGMA, MIN_SCORE = 0.5, 0.001


def soft_nms(boxes, scores, labels, count):
    """The algorithm, box by box: (row, decayed score) of each selected box."""
    remaining, selected = {row: float(score) for row, score in enumerate(scores) if score > 0}, []
    while remaining and len(selected) < count:
        top = max(remaining, key=remaining.get)
        selected.append((top, remaining.pop(top)))
        for row in list(remaining):
            if labels[row] == labels[top]:
                remaining[row] *= np.exp(-(iou(boxes[top], boxes[row]) ** 2) / SIGMA)
            if remaining[row] < MIN_SCORE:
                del remaining[row]
    return selected


def iou(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = sides.clip(0).prod()
    return common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common)


def random_boxes(seed, number):
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 60, (number, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(5, 40, (number, 2))], 1).astype(np.float32)
    scores = ((generator.permutation(number) + 1) / (number + 1)).astype(np.float32)
    return boxes, scores, generator.integers(0, 2, number)


@pytest.mark.parametrize(("number", "count"), [(80, 10), (80, 100), (3, 5)])
def test_result_is_that_of_the_algorithm(number, count):
    images = [random_boxes(seed, number) for seed in range(3)]
    images[1][1][number // 2 :] = 0
    stacked = (torch.from_numpy(np.stack(field)) for field in zip(*images, strict=True))
    results = [out.numpy() for out in SoftNMS(SIGMA, MIN_SCORE, count)(*stacked)]
    for index, (boxes, scores, labels) in enumerate(images):
        rows, values = zip(*soft_nms(boxes, scores, labels, count), strict=True)
        result_boxes, result_scores, result_labels = (field[index] for field in results)
        np.testing.assert_array_equal(result_boxes[: len(rows)], boxes[list(rows)])
        np.testing.assert_allclose(result_scores[: len(rows)], values, rtol=1e-5)
        np.testing.assert_array_equal(result_labels[: len(rows)], labels[list(rows)])
        assert not result_boxes[len(rows) :].any()
        assert not result_scores[len(rows) :].any()


def test_a_box_below_min_score_is_dropped():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]]])
    _, scores, _ = SoftNMS(SIGMA, 0.1, 3)(boxes, torch.tensor([[0.9, 0.5, 0.05]]), torch.zeros(1, 3).long())
    assert scores[0].tolist() == pytest.approx([0.9, 0, 0])  # 0.5 / e² = 0.07


def test_boxes_without_an_area_give_finite_scores():
    """Also inverted ones, which padding rows may hold."""
    boxes = torch.tensor([[[5.0, 5, 5, 5], [5, 5, 5, 5], [9, 9, 2, 2], [0, 0, 10, 10]]])
    scores = torch.tensor([[0.9, 0.8, 0.0, 0.7]])
    _, decayed, _ = SoftNMS(SIGMA, MIN_SCORE, 5)(boxes, scores, torch.zeros(1, 4).long())
    assert decayed[0].tolist() == pytest.approx([0.9, 0.8, 0.7, 0, 0])
