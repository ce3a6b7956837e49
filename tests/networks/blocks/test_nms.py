import numpy as np
import pytest
import torch

from samebox.core.errors import SameboxError
from samebox.networks.blocks import nms
from samebox.networks.blocks.nms import BLOCK, GreedyNMS, clip_and_drop_empty, gather_rows, greedy_fixpoint

THRESHOLD = 0.5


def iou(box, others):
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = (high - low).clip(min=0).prod(1)
    return common / (np.prod(box[2:] - box[:2]) + (others[:, 2:] - others[:, :2]).prod(1) - common)


def greedy(boxes, scores, labels, count, threshold=THRESHOLD):
    """The greedy algorithm, box by box: indices of the kept boxes in descending order of score."""
    kept = []
    for row in np.argsort(-scores, kind="stable"):
        same_class = [other for other in kept if labels[other] == labels[row]]
        if scores[row] > 0 and not (iou(boxes[row], boxes[same_class]) > threshold).any():
            kept.append(int(row))
    return kept[:count]


def random_boxes(seed, number, side=300.0, largest=80.0, classes=3):
    """`number` boxes of random positions, sizes and classes, no two with the same score."""
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, side, (number, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(1, largest, (number, 2))], 1)
    scores = (generator.permutation(number) + 1) / (number + 1)
    return boxes.astype(np.float32), scores.astype(np.float32), generator.integers(0, classes, number)


def run_nms(images, count, threshold=THRESHOLD):
    """GreedyNMS on a batch of images (boxes, scores, labels)."""
    stacked = (torch.from_numpy(np.stack(field)) for field in zip(*images, strict=True))
    return [out.numpy() for out in GreedyNMS(threshold, count)(*stacked)]


def assert_is_greedy(image, count, threshold=THRESHOLD):
    boxes, scores, labels = image
    kept = greedy(boxes, scores, labels, count, threshold)
    result_boxes, result_scores, result_labels = (out[0] for out in run_nms([image], count, threshold))
    assert result_boxes.shape == (count, 4)
    assert result_scores.shape == result_labels.shape == (count,)
    for result, field in ((result_boxes, boxes), (result_scores, scores), (result_labels, labels)):
        np.testing.assert_array_equal(result[: len(kept)], field[kept])
        assert not result[len(kept) :].any(), "a padding row is not zero"
    return kept


@pytest.mark.parametrize(
    ("number", "largest", "count"),
    [
        pytest.param(3000, 80, 100, id="many blocks, all results filled"),
        pytest.param(1500, 80, 1500, id="many blocks, no limit on the results"),
        pytest.param(3000, 250, 400, id="many blocks, heavy overlap"),
        pytest.param(BLOCK, 80, 50, id="exactly one block"),
        pytest.param(BLOCK + 1, 80, BLOCK + 1, id="one box beyond a block"),
        pytest.param(20, 80, 100, id="fewer boxes than count"),
        pytest.param(1, 80, 1, id="one box"),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_result_is_greedy(seed, number, largest, count):
    kept = assert_is_greedy(random_boxes(seed, number, largest=largest), count)
    assert 0 < len(kept) <= count


@pytest.mark.parametrize("threshold", [0.1, 0.45, 0.7, 0.95])
def test_result_is_greedy_at_other_thresholds(threshold):
    assert_is_greedy(random_boxes(2, 1000, largest=200), 300, threshold)


@pytest.mark.parametrize("ascending", [True, False], ids=["lowest score first", "highest score first"])
@pytest.mark.parametrize("number", [BLOCK - 1, 3 * BLOCK])
def test_a_long_chain_of_suppressions(number, ascending):
    """Each box overlaps only the next one, so every second one is kept: the largest number of iterations."""
    left = np.arange(number, dtype=np.float32)
    boxes = np.stack([left, np.zeros_like(left), left + 3, np.ones_like(left)], 1)  # IoU 2/4, then 1/5
    scores = np.linspace(0.9, 0.1, number, dtype=np.float32)
    image = boxes, scores[::-1].copy() if ascending else scores, np.zeros(number, np.int64)
    assert len(assert_is_greedy(image, number, threshold=0.4)) == (number + 1) // 2


def test_a_suppressed_box_does_not_suppress_in_a_later_block():
    """The first box suppresses its neighbours, which would suppress the last one, a block later."""
    first, neighbour, last = [0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]
    boxes = np.array([first, *[neighbour] * (2 * BLOCK), last], np.float32)
    scores = np.linspace(0.9, 0.1, len(boxes), dtype=np.float32)
    kept = assert_is_greedy((boxes, scores, np.zeros(len(boxes), np.int64)), 100, threshold=0.3)
    assert kept == [0, len(boxes) - 1]


def test_a_kept_box_suppresses_in_a_later_block():
    boxes = np.array([[0, 0, 10, 10]] * (2 * BLOCK + 5), np.float32)
    scores = np.linspace(0.9, 0.1, len(boxes), dtype=np.float32)
    assert assert_is_greedy((boxes, scores, np.zeros(len(boxes), np.int64)), 10) == [0]


def test_iou_must_exceed_the_threshold():
    boxes = np.array([[0, 0, 2, 1], [0, 0, 1, 1]], np.float32)  # IoU exactly 0.5
    image = boxes, np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64)
    assert assert_is_greedy(image, 2, threshold=0.5) == [0, 1]
    assert assert_is_greedy(image, 2, threshold=0.499) == [0]


def test_boxes_of_different_classes_do_not_suppress_each_other():
    boxes = np.array([[5, 5, 50, 50]] * 6, np.float32)
    scores = np.array([0.3, 0.9, 0.5, 0.8, 0.7, 0.6], np.float32)
    assert assert_is_greedy((boxes, scores, np.array([0, 1, 2, 1, 0, 79])), 6) == [1, 4, 5, 2]


@pytest.mark.parametrize("number", [5, 3 * BLOCK])
def test_without_candidates_all_rows_are_zero(number):
    boxes, _, labels = random_boxes(3, number)
    for out in run_nms([(boxes, np.zeros(number, np.float32), labels)], 7):
        assert not out.any()


def test_rows_of_score_0_are_ignored():
    boxes, scores, labels = random_boxes(4, 600)
    scores[::2] = 0
    boxes[::4], labels[::4] = 0, 0
    assert_is_greedy((boxes, scores, labels), 300)
    dense = run_nms([(boxes[1::2], scores[1::2], labels[1::2])], 300)
    for out, expected in zip(run_nms([(boxes, scores, labels)], 300), dense, strict=True):
        np.testing.assert_array_equal(out, expected)


def test_equal_scores():
    """Whatever the order of equal scores, no kept box is suppressed and every other box is."""
    boxes, scores, labels = random_boxes(5, 1000)
    scores = np.round(scores * 4) / 4
    kept = run_nms([(boxes, scores, labels)], 1000)
    rows = [out[0][kept[1][0] > 0] for out in kept]
    assert (np.diff(rows[1]) <= 0).all()
    kept_boxes = {(*box, score, label) for box, score, label in zip(*(r.tolist() for r in rows), strict=True)}
    for box, score, label in zip(boxes, scores, labels, strict=True):
        others = (rows[2] == label) & (rows[1] >= score) & (rows[0] != box).any(1)
        suppressed = (iou(box, rows[0][others]) > THRESHOLD).any()
        if (*box.tolist(), float(score), int(label)) in kept_boxes:
            higher = others & (rows[1] > score)
            assert not (iou(box, rows[0][higher]) > THRESHOLD).any()
        else:
            assert suppressed or score == 0


def test_of_equal_boxes_with_equal_scores_one_is_kept():
    boxes = np.array([[1, 1, 9, 9]] * 700, np.float32)
    image = boxes, np.full(700, 0.5, np.float32), np.zeros(700, np.int64)
    assert (run_nms([image], 20)[1] > 0).sum() == 1


@pytest.mark.parametrize("count", [10, 200, 900])
def test_equal_scores_keep_the_order_of_the_input(count):
    """A saturated sigmoid gives many equal scores."""
    boxes, scores, labels = random_boxes(8, 900)
    scores = np.ceil(scores * 3) / 3
    assert_is_greedy((boxes, scores.astype(np.float32), labels), count)


def test_images_of_a_batch_are_independent():
    """The images need different numbers of iterations and blocks, one of them none."""
    images = [random_boxes(seed, 900, largest=20.0 * (seed + 1)) for seed in range(4)]
    images[1][1][300:] = 0
    images[2][1][:] = 0
    batched = run_nms(images, 150)
    for index, image in enumerate(images):
        for out, alone in zip(batched, run_nms([image], 150), strict=True):
            np.testing.assert_array_equal(out[index], alone[0])
        assert_is_greedy(image, 150)


def test_the_result_does_not_depend_on_the_block_size(monkeypatch):
    image = random_boxes(6, 900)
    expected = run_nms([image], 200)
    monkeypatch.setattr(nms, "BLOCK", 7)
    for out, value in zip(run_nms([image], 200), expected, strict=True):
        np.testing.assert_array_equal(out, value)


def test_result_is_that_of_torchvision():
    try:
        from torchvision.ops import batched_nms
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another version of torch
        pytest.skip(f"torchvision's compiled operators do not load: {error}")
    boxes, scores, labels = random_boxes(7, 2000)
    tensors = [torch.from_numpy(field) for field in (boxes, scores, labels)]
    kept = batched_nms(*tensors, THRESHOLD)[:500]
    for out, field in zip(run_nms([(boxes, scores, labels)], 500), tensors, strict=True):
        np.testing.assert_array_equal(out[0][: len(kept)], field[kept].numpy())


def test_only_kept_candidates_suppress_at_the_fixpoint():
    matrix = torch.ones(1, 4, 4, dtype=torch.bool)
    assert greedy_fixpoint(torch.tensor([[True] * 4]), matrix).tolist() == [[True, False, False, False]]
    assert greedy_fixpoint(torch.tensor([[False, False, True, True]]), matrix).tolist() == [
        [False, False, True, False]
    ]


def test_gather_rows():
    x = torch.arange(24).reshape(2, 3, 4)
    rows = gather_rows(x, torch.tensor([[2, 0], [1, 1]]))
    assert rows.tolist() == [x[0, [2, 0]].tolist(), x[1, [1, 1]].tolist()]


def test_a_count_below_one_is_refused():
    with pytest.raises(SameboxError, match=r"nms\.count: 0"):
        GreedyNMS(0.5, 0)


@pytest.mark.parametrize("limit", [1, 7, 40])
def test_per_class_limits_the_results_of_each_class(limit):
    boxes, scores, labels = random_boxes(seed=5, number=1500)
    counts, kept = dict.fromkeys(range(3), 0), []
    for row in greedy(boxes, scores, labels, 1500):
        if counts[labels[row]] < limit:
            counts[labels[row]] += 1
            kept.append(row)
    image = (torch.from_numpy(field)[None] for field in (boxes, scores, labels))
    result, *_ = GreedyNMS(THRESHOLD, 100, per_class=limit)(*image)
    np.testing.assert_array_equal(result[0].numpy()[: len(kept)], boxes[kept[:100]])
    assert not result[0, len(kept) :].any()
    assert len(kept) == 3 * limit


def test_padding_rows_are_zero_even_if_a_box_is_infinite():
    boxes = torch.tensor([[[0.0, 0, 9, 9], [-torch.inf, 0, torch.inf, 9]]])
    result, scores, _ = GreedyNMS(THRESHOLD, 2)(boxes, torch.tensor([[0.9, 0.0]]), torch.tensor([[0, 1]]))
    assert result.tolist() == [[[0, 0, 9, 9], [0, 0, 0, 0]]]
    assert scores[0].tolist() == pytest.approx([0.9, 0])


@pytest.mark.parametrize("number", [200, 3 * BLOCK])
def test_inclusive_boxes_overlap_by_whole_pixels(number):
    """They overlap as continuous boxes with x2 + 1 and y2 + 1; padding rows do not suppress."""
    boxes, scores, labels = random_boxes(11, number, side=60, largest=8)
    boxes = boxes.round()
    boxes[:3] = [[0, 0, 0, 0], [0, 0, 1, 0], [1, 1, 1, 1]]  # near the box of a padding row
    labels[:3] = 0
    continuous = boxes + np.array([0, 0, 1, 1], np.float32)
    kept = greedy(continuous, scores, labels, number)
    nms = GreedyNMS(THRESHOLD, number, inclusive=True)
    result, _, _ = nms(*(torch.from_numpy(x)[None] for x in (boxes, scores, labels)))
    np.testing.assert_array_equal(result[0, : len(kept)], boxes[kept])
    assert not result[0, len(kept) :].any()
    assert len(greedy(boxes, scores, labels, number)) != len(kept), "inclusive makes no difference"


def test_boxes_without_area_are_dropped_and_the_rows_compacted():
    boxes = torch.tensor([[[2.0, 2, 9, 9], [-5, 3, -1, 8], [4, -3, 30, 6], [0, 0, 0, 0]]])
    scores, labels = torch.tensor([[0.9, 0.8, 0.7, 0.0]]), torch.tensor([[3, 1, 2, 0]])
    result = clip_and_drop_empty((boxes, scores, labels), torch.tensor([[8, 20]]))
    assert result[0].tolist() == [[[2, 2, 9, 8], [4, 0, 20, 6], [0] * 4, [0] * 4]]
    assert result[1].equal(torch.tensor([[0.9, 0.7, 0, 0]]))
    assert result[2].tolist() == [[3, 2, 0, 0]]
