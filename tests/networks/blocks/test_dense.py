import numpy as np
import onnxruntime
import pytest
import torch

from samebox.networks.blocks.anchors import Anchors
from samebox.networks.blocks.boxes import areas, clip, decode_deltas
from samebox.networks.blocks.dense import (
    Pairs,
    at_pairs,
    best_pairs,
    candidates,
    map_names,
    probability,
    rank,
)

THRESHOLD = 0.3
MAPS = ((10, 15), (5, 8))  # two levels of a canvas of 40 x 60


def maps(seed, batch, channels, height, width):
    return torch.from_numpy(
        np.random.default_rng(seed).normal(0, 2, (batch, channels, height, width)).astype(np.float32)
    )


def sorted_pairs(logits, classes, count):
    """Every pair of one image's [kinds*classes,H,W] above the threshold, the best `count` of them."""
    channels, height, width = logits.shape
    pairs = []
    for channel in range(channels):
        for cell in range(height * width):
            score = 1 / (1 + np.exp(-logits[channel, cell // width, cell % width]))
            if score > THRESHOLD:
                pairs.append((score, channel % classes, cell, channel // classes))
    return sorted(pairs, reverse=True)[:count]


@pytest.mark.parametrize(
    ("kinds", "classes", "height", "width", "count"),
    [
        pytest.param(9, 6, 8, 11, 100, id="more anchors than wanted"),
        pytest.param(9, 6, 2, 3, 100, id="fewer anchors than wanted"),
        pytest.param(3, 2, 1, 1, 50, id="fewer pairs than wanted"),
        pytest.param(1, 5, 7, 5, 20, id="one kind"),
        pytest.param(3, 1, 7, 5, 20, id="one class"),
        pytest.param(1, 1, 4, 4, 16, id="all of them wanted"),
        pytest.param(2, 80, 3, 3, 10, id="many classes at few anchors"),
    ],
)
def test_best_pairs_are_the_best_of_all(kinds, classes, height, width, count):
    logits = maps(0, 2, kinds * classes, height, width)
    pairs = best_pairs(logits, classes, count, THRESHOLD)
    assert {field.shape for field in pairs} == {(2, count)}
    for image in range(2):
        expected = sorted_pairs(logits[image].numpy(), classes, count)
        scores = pairs.scores[image].numpy()
        assert (scores > 0).sum() == len(expected)
        np.testing.assert_allclose(scores[: len(expected)], [pair[0] for pair in expected], rtol=1e-5)
        found = torch.stack([pairs.labels[image], pairs.cells[image], pairs.kinds[image]], 1)
        assert found[: len(expected)].tolist() == [list(pair[1:]) for pair in expected]


def test_one_anchor_gives_several_classes():
    logits = torch.full((1, 2 * 3, 4, 4), -9.0)
    logits[0, 3:, 2, 1] = torch.tensor([1.0, 3.0, 2.0])  # kind 1 at row 2, column 1
    pairs = best_pairs(logits, 3, 5, THRESHOLD)
    assert (pairs.scores > 0).sum() == 3
    assert pairs.labels[0, :3].tolist() == [1, 2, 0]
    assert pairs.cells[0, :3].tolist() == [9, 9, 9]
    assert pairs.kinds[0, :3].tolist() == [1, 1, 1]


@pytest.mark.parametrize("count", [3, 10, 40])
def test_where_the_sigmoid_saturates_the_first_anchor_comes_first(count):
    logits = maps(3, 2, 2, 5, 7).abs() * 40 + 17  # no two logits are equal, all scores are 1
    pairs = best_pairs(logits, 1, count, 0.0)
    assert (pairs.scores == 1).all()
    expected = [[cell, kind] for cell in range(35) for kind in range(2)][:count]
    for image in range(2):
        assert torch.stack([pairs.cells[image], pairs.kinds[image]], 1).tolist() == expected


def test_a_score_has_to_exceed_the_threshold():
    logits = torch.tensor([0.0, 1e-3]).reshape(1, 2, 1, 1)
    assert (best_pairs(logits, 2, 2, 0.5).scores > 0).tolist() == [[True, False]]


def test_at_pairs_takes_the_vector_of_each_pair():
    width = 4
    values = maps(1, 2, 3 * width, 5, 7)
    cells, kinds = torch.tensor([[0, 34, 8], [7, 7, 20]]), torch.tensor([[2, 0, 1], [1, 2, 0]])
    pairs = Pairs(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.int64), cells, kinds)
    vectors = at_pairs(values, pairs, width)
    assert vectors.shape == (2, 3, width)
    for image in range(2):
        for row in range(3):
            cell, first = int(cells[image, row]), int(kinds[image, row]) * width
            expected = values[image, first : first + width, cell // 7, cell % 7]
            assert vectors[image, row].equal(expected)


def test_candidates_are_decoded_clipped_pairs_level_by_level():
    anchors, sizes = Anchors([4, 8], [1.0, 2.0], [2.0]), torch.tensor([[40, 30], [25, 60]])
    levels = [(maps(5 + i, 2, 2 * 3, *size), maps(7 + i, 2, 2 * 4, *size)) for i, size in enumerate(MAPS)]
    boxes, scores, labels = candidates(levels, anchors, 3, 20, THRESHOLD, sizes)
    assert (boxes.shape, scores.shape, labels.shape) == ((2, 40, 4), (2, 40), (2, 40))
    for level, (logits, deltas) in enumerate(levels):
        rows = slice(20 * level, 20 * level + 20)
        pairs = best_pairs(logits, 3, 20, THRESHOLD)
        priors = anchors(level, pairs.cells, pairs.kinds, logits.shape[3])
        expected = clip(decode_deltas(priors, at_pairs(deltas, pairs, 4)), sizes)
        assert boxes[:, rows].equal(expected)
        assert labels[:, rows].equal(pairs.labels)
        area = areas(expected)
        assert scores[:, rows].equal(torch.where(area > 0, pairs.scores, 0.0))
    assert ((scores == 0) & (areas(boxes) == 0)).any(), "no box was clipped away: the case shows nothing"


def test_candidates_may_reach_beyond_their_image():
    anchors, sizes = Anchors([4], [1.0, 2.0], [2.0]), torch.tensor([[40, 30], [25, 60]])
    levels = [(maps(5, 2, 6, *MAPS[0]), maps(7, 2, 8, *MAPS[0]))]
    boxes, scores, _ = candidates(levels, anchors, 3, 50, THRESHOLD, sizes, clipped=False)
    clipped, fewer, _ = candidates(levels, anchors, 3, 50, THRESHOLD, sizes)
    assert clip(boxes, sizes).equal(clipped)
    assert not boxes.equal(clipped)
    assert (scores > 0).sum() > (fewer > 0).sum()


def test_an_inclusive_candidate_of_one_pixel_counts():
    """A box pressed against the border has x1 = x2, and is a column of pixels."""
    anchors, sizes = Anchors([4], [1.0], [2.0]), torch.tensor([[8, 8]])
    logits, deltas = torch.full((1, 1, 2, 2), 3.0), torch.zeros(1, 4, 2, 2)
    deltas[:, 0] = 5.0  # 40 pixels to the right
    _, scores, _ = candidates([(logits, deltas)], anchors, 1, 4, 0.0, sizes, inclusive=True)
    assert (scores > 0).all()
    _, scores, _ = candidates([(logits, deltas)], anchors, 1, 4, 0.0, sizes)
    assert not scores.any()


def test_a_rank_tells_logits_apart_where_the_sigmoid_is_one():
    logits = torch.tensor([-80.0, -7.5, -1.0, 0.0, 0.5, 17.0, 17.5, 40.0, 41.0])
    ranks = rank(logits)
    assert (ranks > 0).all()
    assert (ranks.diff() > 0).all()
    assert probability(logits[-3:]).unique().numel() == 1


def test_a_quality_weighs_the_scores_of_pairs_that_were_found():
    """Neither which pairs these are changes, nor is there a second threshold."""
    anchors, sizes = Anchors([4], [1.0, 2.0], [2.0]), torch.tensor([[40, 60]] * 2)
    logits, deltas, quality = (maps(5 + i, 2, width, *MAPS[0]) for i, width in enumerate((6, 8, 2)))
    boxes, scores, labels = candidates([(logits, deltas)], anchors, 3, 50, THRESHOLD, sizes)
    same, weighed, same_labels = candidates([(logits, deltas, quality)], anchors, 3, 50, THRESHOLD, sizes)
    assert same.equal(boxes)
    assert same_labels.equal(labels)
    pairs = best_pairs(logits, 3, 50, THRESHOLD)
    for image in range(2):
        own = quality[image, pairs.kinds[image], pairs.cells[image] // 15, pairs.cells[image] % 15]
        torch.testing.assert_close(weighed[image], scores[image] * own.sigmoid())
    assert ((weighed > 0) & (weighed < THRESHOLD)).any()


def test_what_maps_are_called():
    assert map_names(("logits", "deltas"), (8, 16)) == ("logits_8", "deltas_8", "logits_16", "deltas_16")


LOGITS = torch.linspace(-100, 100, 200_001)


def test_probabilities_are_sigmoids():
    torch.testing.assert_close(probability(LOGITS), LOGITS.sigmoid(), rtol=1e-6, atol=1e-38)
    assert (probability(LOGITS).diff() >= 0).all()


class Probability(torch.nn.Module):
    def forward(self, logits):
        return probability(logits)


def test_onnxruntime_ranks_near_one_as_pytorch_does():
    """It orders saturated anchors alike: all but a few values are the same to the last digit."""
    program = torch.onnx.export(Probability(), (LOGITS,), input_names=["logits"], dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"logits": LOGITS.numpy()})
    near_one = LOGITS.numpy() > 5
    assert (found == probability(LOGITS).numpy())[near_one].mean() > 0.999
