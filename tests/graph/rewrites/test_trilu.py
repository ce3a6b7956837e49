import pytest
from rewriting import X, assert_same_outputs, is_unchanged, model_at_18, operators, rewritten

from samebox.graph.rewrites import trilu


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("g (float[2,3,4] x) => (float[2,3,4] y) { y = Trilu(x) }", id="upper"),
        pytest.param(
            "g (float[2,3,4] x) => (float[2,3,4] y) <int64 k = {-1}> { y = Trilu<upper = 0>(x, k) }",
            id="lower",
        ),
        pytest.param(
            """g (float[2,3,4] x) => (bool[2,3,4] y) <int64 k = {1}>
            { zero = Constant<value_float = 0.0>()  b = Less(x, zero)  y = Trilu(b, k) }""",
            id="upper, bool",
        ),
    ],
)
def test_the_triangle_is_masked(text):
    model = model_at_18(text)
    older = rewritten(model, trilu.rewrite, 13)
    assert "Trilu" not in operators(older)
    assert_same_outputs(model, older, X)


def test_another_operator_stays():
    model = model_at_18("g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }")
    assert is_unchanged(model, trilu.rewrite)
