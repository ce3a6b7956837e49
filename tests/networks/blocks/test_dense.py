import numpy as np
import onnxruntime
import pytest
import torch

from samebox.networks.blocks.anchors import Anchors
from samebox.networks.blocks.boxes import areas, clip, decode_deltas
from samebox.networks.blocks.dense import (
    Pairs,
    candidates,
    gather_at_pairs,
    map_names,
    probability,
    top_pairs,
    unsaturated_score,
)

THRESHOLD = 0.3
MAPS = ((10, 15), (5, 8))  # two levels of a canvas of 40 x 60


def random_maps(seed, batch, channels, height, width):
    return torch.from_numpy(
        np.random.default_rng(seed).normal(0, 2, (batch, channels, height, width)).astype(np.float32)
    )


def pairs_by_sorting(logits, classes, count):
    """The `count` highest pairs above the threshold of one image's logits [per_cell*classes,H,W]."""
    channels, height, width = logits.shape
    pairs = []
    for channel in range(channels):
        for cell in range(height * width):
            score = 1 / (1 + np.exp(-logits[channel, cell // width, cell % width]))
            if score > THRESHOLD:
                pairs.append((score, channel % classes, cell, channel // classes))
    return sorted(pairs, reverse=True)[:count]


@pytest.mark.parametrize(
    ("per_cell", "classes", "height", "width", "count"),
    [
        pytest.param(9, 6, 8, 11, 100, id="more anchors than count"),
        pytest.param(9, 6, 2, 3, 100, id="fewer anchors than count"),
        pytest.param(3, 2, 1, 1, 50, id="fewer pairs than count"),
        pytest.param(1, 5, 7, 5, 20, id="one anchor per cell"),
        pytest.param(3, 1, 7, 5, 20, id="one class"),
        pytest.param(1, 1, 4, 4, 16, id="count is the number of pairs"),
        pytest.param(2, 80, 3, 3, 10, id="many classes, few anchors"),
    ],
)
def test_top_pairs_are_the_highest_of_all(per_cell, classes, height, width, count):
    logits = random_maps(0, 2, per_cell * classes, height, width)
    pairs = top_pairs(logits, classes, count, THRESHOLD)
    assert {field.shape for field in pairs} == {(2, count)}
    for image in range(2):
        expected = pairs_by_sorting(logits[image].numpy(), classes, count)
        scores = pairs.scores[image].numpy()
        assert (scores > 0).sum() == len(expected)
        np.testing.assert_allclose(scores[: len(expected)], [pair[0] for pair in expected], rtol=1e-5)
        result = torch.stack([pairs.labels[image], pairs.cells[image], pairs.indices[image]], 1)
        assert result[: len(expected)].tolist() == [list(pair[1:]) for pair in expected]


def test_one_anchor_may_have_several_pairs():
    logits = torch.full((1, 2 * 3, 4, 4), -9.0)
    logits[0, 3:, 2, 1] = torch.tensor([1.0, 3.0, 2.0])  # anchor 1 at row 2, column 1
    pairs = top_pairs(logits, 3, 5, THRESHOLD)
    assert (pairs.scores > 0).sum() == 3
    assert pairs.labels[0, :3].tolist() == [1, 2, 0]
    assert pairs.cells[0, :3].tolist() == [9, 9, 9]
    assert pairs.indices[0, :3].tolist() == [1, 1, 1]


@pytest.mark.parametrize("count", [3, 10, 40])
def test_equal_saturated_scores_keep_the_order_of_anchors(count):
    logits = random_maps(3, 2, 2, 5, 7).abs() * 40 + 17  # no two logits are equal, all scores are 1
    pairs = top_pairs(logits, 1, count, 0.0)
    assert (pairs.scores == 1).all()
    expected = [[cell, index] for cell in range(35) for index in range(2)][:count]
    for image in range(2):
        assert torch.stack([pairs.cells[image], pairs.indices[image]], 1).tolist() == expected


def test_scores_must_exceed_the_threshold():
    logits = torch.tensor([0.0, 1e-3]).reshape(1, 2, 1, 1)
    assert (top_pairs(logits, 2, 2, 0.5).scores > 0).tolist() == [[True, False]]


def test_gather_at_pairs_selects_the_values_of_each_pair():
    width = 4
    values = random_maps(1, 2, 3 * width, 5, 7)
    cells, indices = torch.tensor([[0, 34, 8], [7, 7, 20]]), torch.tensor([[2, 0, 1], [1, 2, 0]])
    pairs = Pairs(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.int64), cells, indices)
    vectors = gather_at_pairs(values, pairs, width)
    assert vectors.shape == (2, 3, width)
    for image in range(2):
        for row in range(3):
            cell, first = int(cells[image, row]), int(indices[image, row]) * width
            expected = values[image, first : first + width, cell // 7, cell % 7]
            assert vectors[image, row].equal(expected)


def test_candidates_are_decoded_clipped_pairs_level_by_level():
    anchors, sizes = Anchors([4, 8], [1.0, 2.0], [2.0]), torch.tensor([[40, 30], [25, 60]])
    levels = [
        (random_maps(5 + i, 2, 2 * 3, *size), random_maps(7 + i, 2, 2 * 4, *size))
        for i, size in enumerate(MAPS)
    ]
    boxes, scores, labels = candidates(levels, anchors, 3, 20, THRESHOLD, sizes)
    assert (boxes.shape, scores.shape, labels.shape) == ((2, 40, 4), (2, 40), (2, 40))
    for level, (logits, deltas) in enumerate(levels):
        rows = slice(20 * level, 20 * level + 20)
        pairs = top_pairs(logits, 3, 20, THRESHOLD)
        priors = anchors(level, pairs.cells, pairs.indices, logits.shape[3])
        expected = clip(decode_deltas(priors, gather_at_pairs(deltas, pairs, 4)), sizes)
        assert boxes[:, rows].equal(expected)
        assert labels[:, rows].equal(pairs.labels)
        area = areas(expected)
        assert scores[:, rows].equal(torch.where(area > 0, pairs.scores, 0.0))
    assert ((scores == 0) & (areas(boxes) == 0)).any(), "no box is empty after clipping"


def test_candidates_are_not_clipped_if_clipped_is_false():
    anchors, sizes = Anchors([4], [1.0, 2.0], [2.0]), torch.tensor([[40, 30], [25, 60]])
    levels = [(random_maps(5, 2, 6, *MAPS[0]), random_maps(7, 2, 8, *MAPS[0]))]
    boxes, scores, _ = candidates(levels, anchors, 3, 50, THRESHOLD, sizes, clipped=False)
    clipped, fewer, _ = candidates(levels, anchors, 3, 50, THRESHOLD, sizes)
    assert clip(boxes, sizes).equal(clipped)
    assert not boxes.equal(clipped)
    assert (scores > 0).sum() > (fewer > 0).sum()


def test_an_inclusive_candidate_of_one_column_has_area():
    """Clipped to the right border, the box has x1 = x2: as an inclusive box, one column of pixels."""
    anchors, sizes = Anchors([4], [1.0], [2.0]), torch.tensor([[8, 8]])
    logits, deltas = torch.full((1, 1, 2, 2), 3.0), torch.zeros(1, 4, 2, 2)
    deltas[:, 0] = 5.0  # 40 pixels to the right
    _, scores, _ = candidates([(logits, deltas)], anchors, 1, 4, 0.0, sizes, inclusive=True)
    assert (scores > 0).all()
    _, scores, _ = candidates([(logits, deltas)], anchors, 1, 4, 0.0, sizes)
    assert not scores.any()


def test_unsaturated_score_increases_where_the_sigmoid_is_1():
    logits = torch.tensor([-80.0, -7.5, -1.0, 0.0, 0.5, 17.0, 17.5, 40.0, 41.0])
    scores = unsaturated_score(logits)
    assert (scores > 0).all()
    assert (scores.diff() > 0).all()
    assert probability(logits[-3:]).unique().numel() == 1


def test_a_quality_multiplies_the_scores_of_the_selected_pairs():
    """It changes neither the selection, nor is its product compared with the threshold."""
    anchors, sizes = Anchors([4], [1.0, 2.0], [2.0]), torch.tensor([[40, 60]] * 2)
    logits, deltas, quality = (random_maps(5 + i, 2, width, *MAPS[0]) for i, width in enumerate((6, 8, 2)))
    boxes, scores, labels = candidates([(logits, deltas)], anchors, 3, 50, THRESHOLD, sizes)
    same, weighed, same_labels = candidates([(logits, deltas, quality)], anchors, 3, 50, THRESHOLD, sizes)
    assert same.equal(boxes)
    assert same_labels.equal(labels)
    pairs = top_pairs(logits, 3, 50, THRESHOLD)
    for image in range(2):
        factor = quality[image, pairs.indices[image], pairs.cells[image] // 15, pairs.cells[image] % 15]
        torch.testing.assert_close(weighed[image], scores[image] * factor.sigmoid())
    assert ((weighed > 0) & (weighed < THRESHOLD)).any()


def test_map_names():
    assert map_names(("logits", "deltas"), (8, 16)) == ("logits_8", "deltas_8", "logits_16", "deltas_16")


LOGITS = torch.linspace(-100, 100, 200_001)


def test_probability_is_the_sigmoid():
    torch.testing.assert_close(probability(LOGITS), LOGITS.sigmoid(), rtol=1e-6, atol=1e-38)
    assert (probability(LOGITS).diff() >= 0).all()


class Probability(torch.nn.Module):
    def forward(self, logits):
        return probability(logits)


def test_onnxruntime_gives_the_same_probabilities_near_1():
    """Saturated anchors are ranked equally: all but a few values are identical."""
    program = torch.onnx.export(Probability(), (LOGITS,), input_names=["logits"], dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (result,) = session.run(None, {"logits": LOGITS.numpy()})
    near_one = LOGITS.numpy() > 5
    assert (result == probability(LOGITS).numpy())[near_one].mean() > 0.999
