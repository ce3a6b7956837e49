import numpy as np
import pytest
from rewriting import assert_same_outputs, attributes, is_unchanged, model_at_18, rewritten

from samebox.graph.rewrites import split_outputs

X = {"x": np.arange(24, dtype=np.float32).reshape(4, 6)}


@pytest.mark.parametrize("axis", [1, -1])
def test_num_outputs_is_removed_for_equal_parts(axis):
    model = model_at_18(
        f"g (float[4,6] x) => (float[4,2] a, float[4,2] b, float[4,2] c) "
        f"{{ a, b, c = Split<axis = {axis}, num_outputs = 3>(x) }}"
    )
    older = rewritten(model, split_outputs.rewrite)
    assert attributes(older) == {"axis": axis}
    assert_same_outputs(model, older, X)


def test_the_axis_is_the_first_by_default():
    model = model_at_18(
        "g (float[4,6] x) => (float[2,6] a, float[2,6] b) { a, b = Split<num_outputs = 2>(x) }"
    )
    older = rewritten(model, split_outputs.rewrite)
    assert not attributes(older)
    assert_same_outputs(model, older, X)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            """g (float[4,6] x) => (float[4,4] a, float[4,2] b) <int64[2] sizes = {4, 2}>
            { a, b = Split<axis = 1>(x, sizes) }""",
            id="with sizes",
        ),
        pytest.param(
            "g (float[5,6] x) => (float[3,6] a, float[2,6] b) { a, b = Split<num_outputs = 2>(x) }",
            id="a smaller last part",
        ),
        pytest.param(
            "g (float[n,6] x) => (float[p,6] a, float[q,6] b) { a, b = Split<num_outputs = 2>(x) }",
            id="a length known only at run time",
        ),
    ],
)
def test_unchanged(text):
    assert is_unchanged(model_at_18(text), split_outputs.rewrite)
