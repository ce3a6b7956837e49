import numpy as np
import pytest
from rewriting import assert_same_outputs, is_unchanged, model_at_18, rewritten

from samebox.graph.rewrites import pad_axes

X = {"x": np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)}


@pytest.mark.parametrize(
    ("axes", "mode"),
    [
        ("2, 3", "constant"),
        ("-2, -1", "constant"),
        ("3, 2", "constant"),
        ("2, 3", "edge"),
        ("2, 3", "reflect"),
    ],
)
def test_pads_are_given_for_all_axes(axes, mode):
    model = model_at_18(
        f"""g (float[1,2,3,4] x) => (float[1,2,h,w] y)
        <int64[4] pads = {{1, 2, 0, 1}}, float value = {{7.0}}, int64[2] axes = {{{axes}}}>
        {{ y = Pad<mode = "{mode}">(x, pads, value, axes) }}"""
    )
    older = rewritten(model, pad_axes.rewrite)
    assert len(older.graph.node[0].input) == 3
    assert_same_outputs(model, older, X)


def test_one_axis_and_no_value():
    model = model_at_18(
        """g (float[1,2,3,4] x) => (float[1,2,3,9] y) <int64[2] pads = {2, 3}, int64[1] axes = {3}>
        { y = Pad(x, pads, , axes) }"""
    )
    (output,) = assert_same_outputs(model, rewritten(model, pad_axes.rewrite), X)
    np.testing.assert_array_equal(output, np.pad(X["x"], [(0, 0), (0, 0), (0, 0), (2, 3)]))


def test_two_pads_without_node_names_keep_their_values():
    model = model_at_18(
        """g (float[1,2,3,4] x) => (float[1,2,5,4] y, float[1,2,3,7] z)
        <int64[2] rows = {1, 1}, int64[2] columns = {0, 3}, int64[1] second = {2}, int64[1] third = {3}>
        { y = Pad(x, rows, , second)  z = Pad(x, columns, , third) }"""
    )
    assert_same_outputs(model, rewritten(model, pad_axes.rewrite), X)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            """g (float[1,2,3,4] x) => (float[1,2,3,6] y) <int64[8] pads = {0,0,0,1,0,0,0,1}>
            { y = Pad(x, pads) }""",
            id="pads for all axes",
        ),
        pytest.param(
            """g (float[1,2,3,4] x, int64[2] pads) => (float[1,2,3,w] y) <int64[1] axes = {3}>
            { y = Pad(x, pads, , axes) }""",
            id="pads known only at run time",
        ),
    ],
)
def test_unchanged(text):
    assert is_unchanged(model_at_18(text), pad_axes.rewrite)
