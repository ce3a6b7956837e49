import numpy as np
import pytest

from samebox.graph.output_comparison import OutputDifferenceError, Tolerance, compare_outputs


def answers(scores, labels, extra=None):
    """One image whose boxes tell the labels apart."""
    labels = np.array([labels], np.int64)
    boxes = np.repeat(labels[..., None] * 10.0, 4, -1)
    found = {"boxes": boxes, "scores": np.array([scores]), "labels": labels}
    return found if extra is None else found | {"masks": np.array([extra])}


def test_equal_scores_may_change_places():
    ours = answers([0.9, 0.50001, 0.5, 0.0], [1, 2, 3, 0], [10.0, 20.0, 30.0, 0.0])
    theirs = answers([0.9, 0.50001, 0.5, 0.0], [1, 3, 2, 0], [10.0, 30.0, 20.0, 0.0])
    assert compare_outputs(ours, theirs, Tolerance()) == 3


def test_the_last_place_may_go_to_an_equal_score():
    ours, theirs = answers([0.9, 0.5], [1, 2]), answers([0.9, 0.5], [1, 3])
    assert compare_outputs(ours, theirs, Tolerance()) == 1


@pytest.mark.parametrize(
    ("theirs", "reason"),
    [
        (answers([0.9, 0.5, 0.0], [1, 3, 0], [1.0, 2.0, 0.0]), "label 2"),
        (answers([0.9, 0.0, 0.0], [1, 0, 0], [1.0, 0.0, 0.0]), "2 detections became 1"),
        (answers([0.9, 0.5, 0.0], [1, 2, 0], [1.0, 9.0, 0.0]), "masks differs"),
        (answers([0.9, 0.52, 0.0], [1, 2, 0], [1.0, 2.0, 0.0]), "label 2"),
        (answers([0.9, 0.5], [1, 2], [1.0, 2.0]), "shape"),
    ],
)
def test_another_answer_is_told(theirs, reason):
    ours = answers([0.9, 0.5, 0.0], [1, 2, 0], [1.0, 2.0, 0.0])
    with pytest.raises(OutputDifferenceError, match=reason):
        compare_outputs(ours, theirs, Tolerance())


def test_outputs_of_the_image_are_compared_as_they_are():
    image = {"semantic": np.zeros((1, 4, 1000), np.int64)}
    ours, theirs = answers([0.9], [1]) | image, answers([0.9], [1]) | {"semantic": image["semantic"].copy()}
    theirs["semantic"][0, 0, :4] = 1
    assert compare_outputs(ours, theirs, Tolerance()) == 1
    theirs["semantic"][0, 0, :5] = 1
    with pytest.raises(OutputDifferenceError, match="semantic differs"):
        compare_outputs(ours, theirs, Tolerance())


def test_detections_without_boxes_are_matched_by_score_and_label():
    masks = np.random.default_rng(0).random((1, 3, 4, 4), np.float32)
    ours = {
        "scores": np.array([[0.9, 0.8, 0]], np.float32),
        "labels": np.array([[1, 2, 0]]),
        "masks": masks,
    }
    assert compare_outputs(ours, ours, Tolerance()) == 2
    with pytest.raises(OutputDifferenceError, match="masks differs"):
        compare_outputs(ours, ours | {"masks": masks[:, [1, 0, 2]]}, Tolerance())


def test_maps_of_heads_are_compared_as_they_are():
    ours = {"logits_8": np.zeros((1, 2, 4, 4), np.float32)}
    assert compare_outputs(ours, ours, Tolerance()) == 0
    with pytest.raises(OutputDifferenceError, match="logits_8 differs"):
        compare_outputs(ours, {"logits_8": ours["logits_8"] + 1}, Tolerance())
