import pytest
from rewriting import X, assert_same_outputs, attributes, is_unchanged, model_at_18, rewritten

from samebox.graph.rewrites import reshape_allowzero


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            """g (float[2,3,4] x) => (float[4,p] y) <int64[2] to = {4, -1}>
            { y = Reshape<allowzero = 1>(x, to) }""",
            id="a shape without 0",
        ),
        pytest.param(
            """g (float[2,3,4] x) => (float[2,p] y) <int64[2] to = {0, -1}>
            { y = Reshape<allowzero = 0>(x, to) }""",
            id="a 0 that copies the dimension",
        ),
    ],
)
def test_allowzero_is_removed(text):
    model = model_at_18(text)
    older = rewritten(model, reshape_allowzero.rewrite, 13)
    assert not attributes(older)
    assert_same_outputs(model, older, X)


def test_a_0_that_means_0_stays():
    model = model_at_18(
        """g (float[p,3] x) => (float[q,3] y) <int64[2] to = {0, 3}>
        { y = Reshape<allowzero = 1>(x, to) }"""
    )
    assert is_unchanged(model, reshape_allowzero.rewrite)
