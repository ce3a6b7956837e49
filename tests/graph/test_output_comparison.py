import numpy as np
import pytest

from samebox.graph.output_comparison import OutputDifferenceError, Tolerance, compare_outputs


def outputs(scores, labels, extra=None):
    """Outputs for one image, with a different box for each label."""
    labels = np.array([labels], np.int64)
    boxes = np.repeat(labels[..., None] * 10.0, 4, -1)
    arrays = {"boxes": boxes, "scores": np.array([scores]), "labels": labels}
    return arrays if extra is None else arrays | {"masks": np.array([extra])}


def test_detections_with_equal_scores_may_change_their_order():
    ours = outputs([0.9, 0.50001, 0.5, 0.0], [1, 2, 3, 0], [10.0, 20.0, 30.0, 0.0])
    theirs = outputs([0.9, 0.50001, 0.5, 0.0], [1, 3, 2, 0], [10.0, 30.0, 20.0, 0.0])
    assert compare_outputs(ours, theirs, Tolerance()) == 3


def test_the_last_row_may_hold_another_detection_of_equal_score():
    ours, theirs = outputs([0.9, 0.5], [1, 2]), outputs([0.9, 0.5], [1, 3])
    assert compare_outputs(ours, theirs, Tolerance()) == 1


@pytest.mark.parametrize(
    ("theirs", "reason"),
    [
        (outputs([0.9, 0.5, 0.0], [1, 3, 0], [1.0, 2.0, 0.0]), "label 2"),
        (outputs([0.9, 0.0, 0.0], [1, 0, 0], [1.0, 0.0, 0.0]), "2 detections became 1"),
        (outputs([0.9, 0.5, 0.0], [1, 2, 0], [1.0, 9.0, 0.0]), "masks differs"),
        (outputs([0.9, 0.52, 0.0], [1, 2, 0], [1.0, 2.0, 0.0]), "label 2"),
        (outputs([0.9, 0.5], [1, 2], [1.0, 2.0]), "shape"),
    ],
)
def test_a_difference_is_an_error(theirs, reason):
    ours = outputs([0.9, 0.5, 0.0], [1, 2, 0], [1.0, 2.0, 0.0])
    with pytest.raises(OutputDifferenceError, match=reason):
        compare_outputs(ours, theirs, Tolerance())


def test_outputs_of_the_whole_image_are_compared_element_by_element():
    image = {"semantic": np.zeros((1, 4, 1000), np.int64)}
    ours, theirs = outputs([0.9], [1]) | image, outputs([0.9], [1]) | {"semantic": image["semantic"].copy()}
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


def test_head_outputs_are_compared_element_by_element():
    ours = {"logits_8": np.zeros((1, 2, 4, 4), np.float32)}
    assert compare_outputs(ours, ours, Tolerance()) == 0
    with pytest.raises(OutputDifferenceError, match="logits_8 differs"):
        compare_outputs(ours, {"logits_8": ours["logits_8"] + 1}, Tolerance())
