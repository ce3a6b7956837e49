import numpy as np
import pytest
import torch

from samebox.core.errors import SameboxError
from samebox.networks.blocks import nms
from samebox.networks.blocks.nms import BLOCK, GreedyNMS, clip_and_drop_empty, fixpoint, gather_rows

THRESHOLD = 0.5


def iou(box, others):
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = (high - low).clip(min=0).prod(1)
    return common / (np.prod(box[2:] - box[:2]) + (others[:, 2:] - others[:, :2]).prod(1) - common)


def greedy(boxes, scores, labels, count, threshold=THRESHOLD):
    """The definition, one box after the other: rows kept, best first."""
    kept = []
    for row in np.argsort(-scores, kind="stable"):
        rivals = [other for other in kept if labels[other] == labels[row]]
        if scores[row] > 0 and not (iou(boxes[row], boxes[rivals]) > threshold).any():
            kept.append(int(row))
    return kept[:count]


def crowd(seed, number, side=300.0, largest=80.0, classes=3):
    """`number` boxes of random places, sizes and classes, no two with the same score."""
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, side, (number, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(1, largest, (number, 2))], 1)
    scores = (generator.permutation(number) + 1) / (number + 1)
    return boxes.astype(np.float32), scores.astype(np.float32), generator.integers(0, classes, number)


def answered(images, count, threshold=THRESHOLD):
    """GreedyNMS on a batch of (boxes, scores, labels)."""
    stacked = (torch.from_numpy(np.stack(field)) for field in zip(*images, strict=True))
    return [out.numpy() for out in GreedyNMS(threshold, count)(*stacked)]


def assert_is_greedy(image, count, threshold=THRESHOLD):
    boxes, scores, labels = image
    kept = greedy(boxes, scores, labels, count, threshold)
    got_boxes, got_scores, got_labels = (out[0] for out in answered([image], count, threshold))
    assert got_boxes.shape == (count, 4)
    assert got_scores.shape == got_labels.shape == (count,)
    for got, given in ((got_boxes, boxes), (got_scores, scores), (got_labels, labels)):
        np.testing.assert_array_equal(got[: len(kept)], given[kept])
        assert not got[len(kept) :].any(), "a row to spare is not zero"
    return kept


@pytest.mark.parametrize(
    ("number", "largest", "count"),
    [
        pytest.param(3000, 80, 100, id="many blocks, full answer"),
        pytest.param(1500, 80, 1500, id="many blocks, every survivor wanted"),
        pytest.param(3000, 250, 400, id="many blocks, heavy overlap"),
        pytest.param(BLOCK, 80, 50, id="exactly one block"),
        pytest.param(BLOCK + 1, 80, BLOCK + 1, id="one box beyond a block"),
        pytest.param(20, 80, 100, id="fewer boxes than wanted"),
        pytest.param(1, 80, 1, id="one box"),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_as_the_definition(seed, number, largest, count):
    kept = assert_is_greedy(crowd(seed, number, largest=largest), count)
    assert 0 < len(kept) <= count


@pytest.mark.parametrize("threshold", [0.1, 0.45, 0.7, 0.95])
def test_as_the_definition_at_threshold(threshold):
    assert_is_greedy(crowd(2, 1000, largest=200), 300, threshold)


@pytest.mark.parametrize("rising", [True, False], ids=["worst first", "best first"])
@pytest.mark.parametrize("number", [BLOCK - 1, 3 * BLOCK])
def test_a_long_chain_of_strikes(number, rising):
    """Each box strikes the next alone, so that every second one stays: the most turns there can be."""
    left = np.arange(number, dtype=np.float32)
    boxes = np.stack([left, np.zeros_like(left), left + 3, np.ones_like(left)], 1)  # IoU 2/4, then 1/5
    scores = np.linspace(0.9, 0.1, number, dtype=np.float32)
    image = boxes, scores[::-1].copy() if rising else scores, np.zeros(number, np.int64)
    assert len(assert_is_greedy(image, number, threshold=0.4)) == (number + 1) // 2


def test_a_struck_box_does_not_strike_in_a_later_block():
    """The best box strikes its neighbours, which would strike the last one, a block later."""
    best, struck, last = [0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]
    boxes = np.array([best, *[struck] * (2 * BLOCK), last], np.float32)
    scores = np.linspace(0.9, 0.1, len(boxes), dtype=np.float32)
    kept = assert_is_greedy((boxes, scores, np.zeros(len(boxes), np.int64)), 100, threshold=0.3)
    assert kept == [0, len(boxes) - 1]


def test_a_box_kept_in_an_earlier_block_strikes_in_a_later_one():
    boxes = np.array([[0, 0, 10, 10]] * (2 * BLOCK + 5), np.float32)
    scores = np.linspace(0.9, 0.1, len(boxes), dtype=np.float32)
    assert assert_is_greedy((boxes, scores, np.zeros(len(boxes), np.int64)), 10) == [0]


def test_overlap_has_to_exceed_the_threshold():
    boxes = np.array([[0, 0, 2, 1], [0, 0, 1, 1]], np.float32)  # IoU exactly 0.5
    image = boxes, np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64)
    assert assert_is_greedy(image, 2, threshold=0.5) == [0, 1]
    assert assert_is_greedy(image, 2, threshold=0.499) == [0]


def test_classes_do_not_strike_one_another():
    boxes = np.array([[5, 5, 50, 50]] * 6, np.float32)
    scores = np.array([0.3, 0.9, 0.5, 0.8, 0.7, 0.6], np.float32)
    assert assert_is_greedy((boxes, scores, np.array([0, 1, 2, 1, 0, 79])), 6) == [1, 4, 5, 2]


@pytest.mark.parametrize("number", [5, 3 * BLOCK])
def test_no_candidate(number):
    boxes, _, labels = crowd(3, number)
    for out in answered([(boxes, np.zeros(number, np.float32), labels)], 7):
        assert not out.any()


def test_padding_changes_nothing():
    boxes, scores, labels = crowd(4, 600)
    scores[::2] = 0
    boxes[::4], labels[::4] = 0, 0
    assert_is_greedy((boxes, scores, labels), 300)
    dense = answered([(boxes[1::2], scores[1::2], labels[1::2])], 300)
    for out, expected in zip(answered([(boxes, scores, labels)], 300), dense, strict=True):
        np.testing.assert_array_equal(out, expected)


def test_equal_scores():
    """Which of two equals goes first is open; that nobody kept is struck, and the others are, is not."""
    boxes, scores, labels = crowd(5, 1000)
    scores = np.round(scores * 4) / 4
    kept = answered([(boxes, scores, labels)], 1000)
    rows = [out[0][kept[1][0] > 0] for out in kept]
    assert (np.diff(rows[1]) <= 0).all()
    found = {(*box, score, label) for box, score, label in zip(*(r.tolist() for r in rows), strict=True)}
    for box, score, label in zip(boxes, scores, labels, strict=True):
        rivals = (rows[2] == label) & (rows[1] >= score) & (rows[0] != box).any(1)
        struck = (iou(box, rows[0][rivals]) > THRESHOLD).any()
        if (*box.tolist(), float(score), int(label)) in found:
            better = rivals & (rows[1] > score)
            assert not (iou(box, rows[0][better]) > THRESHOLD).any()
        else:
            assert struck or score == 0


def test_equal_boxes_with_equal_scores_leave_one():
    boxes = np.array([[1, 1, 9, 9]] * 700, np.float32)
    image = boxes, np.full(700, 0.5, np.float32), np.zeros(700, np.int64)
    assert (answered([image], 20)[1] > 0).sum() == 1


@pytest.mark.parametrize("count", [10, 200, 900])
def test_equal_scores_are_taken_in_the_order_they_came_in(count):
    """A sigmoid that saturates gives many; the definition's sort is stable, and so is this."""
    boxes, scores, labels = crowd(8, 900)
    scores = np.ceil(scores * 3) / 3
    assert_is_greedy((boxes, scores.astype(np.float32), labels), count)


def test_images_of_a_batch_are_apart():
    """Images that need different numbers of turns and blocks, some none at all."""
    images = [crowd(seed, 900, largest=20.0 * (seed + 1)) for seed in range(4)]
    images[1][1][300:] = 0
    images[2][1][:] = 0
    together = answered(images, 150)
    for index, image in enumerate(images):
        for out, alone in zip(together, answered([image], 150), strict=True):
            np.testing.assert_array_equal(out[index], alone[0])
        assert_is_greedy(image, 150)


def test_the_size_of_a_block_does_not_matter(monkeypatch):
    image = crowd(6, 900)
    expected = answered([image], 200)
    monkeypatch.setattr(nms, "BLOCK", 7)
    for out, value in zip(answered([image], 200), expected, strict=True):
        np.testing.assert_array_equal(out, value)


def test_as_torchvision():
    try:
        from torchvision.ops import batched_nms
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        pytest.skip(f"torchvision's compiled operators do not load: {error}")
    boxes, scores, labels = crowd(7, 2000)
    tensors = [torch.from_numpy(field) for field in (boxes, scores, labels)]
    kept = batched_nms(*tensors, THRESHOLD)[:500]
    for out, given in zip(answered([(boxes, scores, labels)], 500), tensors, strict=True):
        np.testing.assert_array_equal(out[0][: len(kept)], given[kept].numpy())


def test_fixpoint_counts_only_strikes_of_the_kept():
    strikes = torch.ones(1, 4, 4, dtype=torch.bool)
    assert fixpoint(torch.tensor([[True] * 4]), strikes).tolist() == [[True, False, False, False]]
    assert fixpoint(torch.tensor([[False, False, True, True]]), strikes).tolist() == [
        [False, False, True, False]
    ]


def test_gather_rows():
    x = torch.arange(24).reshape(2, 3, 4)
    got = gather_rows(x, torch.tensor([[2, 0], [1, 1]]))
    assert got.tolist() == [x[0, [2, 0]].tolist(), x[1, [1, 1]].tolist()]


def test_a_count_below_one_is_refused():
    with pytest.raises(SameboxError, match=r"nms\.count: 0"):
        GreedyNMS(0.5, 0)


@pytest.mark.parametrize("cap", [1, 7, 40])
def test_no_class_has_more_than_its_share(cap):
    boxes, scores, labels = crowd(seed=5, number=1500)
    taken, kept = dict.fromkeys(range(3), 0), []
    for row in greedy(boxes, scores, labels, 1500):
        if taken[labels[row]] < cap:
            taken[labels[row]] += 1
            kept.append(row)
    image = (torch.from_numpy(field)[None] for field in (boxes, scores, labels))
    found, *_ = GreedyNMS(THRESHOLD, 100, per_class=cap)(*image)
    np.testing.assert_array_equal(found[0].numpy()[: len(kept)], boxes[kept[:100]])
    assert not found[0, len(kept) :].any()
    assert len(kept) == 3 * cap


def test_an_infinite_box_leaves_no_trace_in_rows_to_spare():
    boxes = torch.tensor([[[0.0, 0, 9, 9], [-torch.inf, 0, torch.inf, 9]]])
    found, scores, _ = GreedyNMS(THRESHOLD, 2)(boxes, torch.tensor([[0.9, 0.0]]), torch.tensor([[0, 1]]))
    assert found.tolist() == [[[0, 0, 9, 9], [0, 0, 0, 0]]]
    assert scores[0].tolist() == pytest.approx([0.9, 0])


@pytest.mark.parametrize("number", [200, 3 * BLOCK])
def test_inclusive_boxes_overlap_by_whole_pixels(number):
    """As continuous boxes do whose x2 and y2 lie one further on; the rows to spare strike nobody."""
    boxes, scores, labels = crowd(11, number, side=60, largest=8)
    boxes = boxes.round()
    boxes[:3] = [[0, 0, 0, 0], [0, 0, 1, 0], [1, 1, 1, 1]]  # where a row of zeros would be
    labels[:3] = 0
    outlines = boxes + np.array([0, 0, 1, 1], np.float32)
    kept = greedy(outlines, scores, labels, number)
    nms = GreedyNMS(THRESHOLD, number, inclusive=True)
    found, _, _ = nms(*(torch.from_numpy(x)[None] for x in (boxes, scores, labels)))
    np.testing.assert_array_equal(found[0, : len(kept)], boxes[kept])
    assert not found[0, len(kept) :].any()
    assert len(greedy(boxes, scores, labels, number)) != len(kept), "the case shows nothing"


def test_what_is_not_seen_leaves_the_rows_that_were_chosen():
    boxes = torch.tensor([[[2.0, 2, 9, 9], [-5, 3, -1, 8], [4, -3, 30, 6], [0, 0, 0, 0]]])
    scores, labels = torch.tensor([[0.9, 0.8, 0.7, 0.0]]), torch.tensor([[3, 1, 2, 0]])
    found = clip_and_drop_empty((boxes, scores, labels), torch.tensor([[8, 20]]))
    assert found[0].tolist() == [[[2, 2, 9, 8], [4, 0, 20, 6], [0] * 4, [0] * 4]]
    assert found[1].equal(torch.tensor([[0.9, 0.7, 0, 0]]))
    assert found[2].tolist() == [[3, 2, 0, 0]]
