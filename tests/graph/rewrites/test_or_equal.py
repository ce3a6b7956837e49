import numpy as np
from rewriting import X, assert_same_outputs, is_unchanged, model_at_18, operators, rewritten

from samebox.graph.rewrites import or_equal


def test_both_comparisons_are_replaced():
    model = model_at_18(
        """g (float[2,3,4] x) => (bool[2,3,4] y, bool[2,3,4] z)
        { n = Constant<value = float {3}>()  y = GreaterOrEqual(x, n)  z = LessOrEqual(x, n) }"""
    )
    older = rewritten(model, or_equal.rewrite, 11)
    assert operators(older) == ["Constant", "Greater", "Equal", "Or", "Less", "Equal", "Or"]
    assert_same_outputs(model, older, X)


def test_a_comparison_with_nan_is_false():
    model = model_at_18("g (float[2] x) => (bool[2] y) { y = GreaterOrEqual(x, x) }")
    older = rewritten(model, or_equal.rewrite, 11)
    (output,) = assert_same_outputs(model, older, {"x": np.array([np.nan, 1], np.float32)})
    assert output.tolist() == [False, True]


def test_another_comparison_stays():
    model = model_at_18("g (float[2] x) => (bool[2] y) { y = Greater(x, x) }")
    assert is_unchanged(model, or_equal.rewrite)
