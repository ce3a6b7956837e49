import numpy as np
import pytest

from samebox.core.errors import SameboxError
from samebox.postprocess.outputs import check_outputs

BOXES = {
    "boxes": np.zeros((2, 5, 4), np.float32),
    "scores": np.zeros((2, 5), np.float32),
    "labels": np.zeros((2, 5), np.int64),
}
MASKS = {"masks": np.zeros((2, 5, 7, 7), np.float32)}
KEYPOINTS = {"keypoints": np.zeros((2, 5, 3, 7, 7), np.float32)}
SEMANTICS = {"semantics": np.zeros((2, 4, 8, 8), np.float32)}
SEGMENTS = {"scores": BOXES["scores"], "labels": BOXES["labels"]} | MASKS


@pytest.mark.parametrize(
    "outputs", [BOXES, BOXES | MASKS, BOXES | KEYPOINTS, BOXES | MASKS | SEMANTICS, SEGMENTS], ids=list
)
def test_the_outputs_of_each_kind_of_network(outputs):
    check_outputs(outputs, 2, "net.onnx")
    check_outputs(outputs, 1, "net.onnx")  # a batch that is padded
    with pytest.raises(SameboxError, match="for 3 images"):
        check_outputs(outputs, 3, "net.onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": np.zeros((2, 5, 3), np.float32)}, r"boxes is float32 \[2, 5, 3\], not \[B,K,4\]"),
        ({"boxes": np.zeros((2, 6, 4), np.float32)}, "its output boxes is"),
        ({"boxes": np.zeros((2, 5, 4), np.int64)}, "its output boxes is int64"),
        ({"labels": np.zeros((2, 5), np.float32)}, "its output labels is float32"),
        ({"scores": np.zeros((), np.float32)}, "its output boxes is"),
        ({"scores": np.array([["a"] * 5] * 2)}, "its output scores is"),
        ({"masks": np.zeros((2, 5), np.float32)}, "its output masks is"),
        ({"other": np.zeros(2)}, "its outputs are boxes, scores, labels, other"),
    ],
)
def test_other_outputs_are_an_error_that_names_the_file(change, message):
    with pytest.raises(SameboxError, match=f"^net.onnx: .*{message}"):
        check_outputs(BOXES | change, 2, "net.onnx")


@pytest.mark.parametrize("absent", BOXES)
def test_a_missing_output_is_an_error(absent):
    with pytest.raises(SameboxError, match="its outputs are"):
        check_outputs({name: BOXES[name] for name in BOXES if name != absent}, 2, "net.onnx")
