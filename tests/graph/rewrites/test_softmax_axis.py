import numpy as np
from rewriting import (
    X,
    assert_same_outputs,
    attributes,
    is_unchanged,
    model_at_18,
    operators,
    outputs_of,
    rewritten,
)

from samebox.graph.rewrites import softmax_axis


def test_a_softmax_along_the_last_axis_gets_the_axis_as_an_attribute():
    model = model_at_18("g (float[2,3,4] x) => (float[2,3,4] y) { y = Softmax(x) }")
    older = rewritten(model, softmax_axis.rewrite, 12)
    assert operators(older) == ["Softmax"]
    assert attributes(older) == {"axis": -1}
    assert_same_outputs(model, older, X)


def test_a_softmax_along_another_axis_becomes_exponentials():
    model = model_at_18("g (float[2,3,4] x) => (float[2,3,4] y) { y = Softmax<axis = 1>(x) }")
    older = rewritten(model, softmax_axis.rewrite, 12)
    assert "Softmax" not in operators(older)
    feed = {"x": 30 * X["x"]}
    np.testing.assert_allclose(outputs_of(older, feed)[0], outputs_of(model, feed)[0], rtol=1e-6)


def test_axis_minus_1_stays():
    model = model_at_18("g (float[2,3] x) => (float[2,3] y) { y = Softmax<axis = -1>(x) }")
    assert is_unchanged(model, softmax_axis.rewrite)
