import pytest
from rewriting import X, assert_same_outputs, is_unchanged, model_at_18, rewritten

from samebox.graph.rewrites import resize_inputs


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            """g (float[2,3,4] x) => (float[2,6,8] y) <int64[3] to = {2, 6, 8}>
            { y = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric",
              nearest_mode = "floor">(x, , , to) }""",
            id="sizes",
        ),
        pytest.param(
            """g (float[2,3,4] x) => (float[2,6,8] y) <float[3] by = {1, 2, 2}>
            { y = Resize<mode = "linear">(x, , by) }""",
            id="scales",
        ),
        pytest.param(
            """g (float[2,3,n] x) => (float[2,6,m] y) <int64[3] by = {1, 2, 2}>
            { shape = Shape(x) to = Mul(shape, by) y = Resize<mode = "nearest",
              coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(x, , , to) }""",
            id="computed sizes",
        ),
    ],
)
def test_absent_inputs_become_empty_tensors(text):
    model = model_at_18(text)
    older = rewritten(model, resize_inputs.rewrite, 11)
    assert all(older.graph.node[-1].input)
    assert_same_outputs(model, older, X)


def test_computed_sizes_go_through_a_reshape():
    """ONNX Runtime 1.15 to 1.17 infers the number of sizes from nothing else."""
    text = "g (float[2,3,n] x) => (float[2,6,m] y) { to = Shape(x) y = Resize(x, , , to) }"
    older = rewritten(model_at_18(text), resize_inputs.rewrite, 11)
    *_, reshape, resize = older.graph.node
    assert reshape.op_type == "Reshape"
    assert resize.input[3] == reshape.output[0]


def test_another_operator_stays():
    model = model_at_18("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    assert is_unchanged(model, resize_inputs.rewrite)
