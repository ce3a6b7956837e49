"""What is written otherwise before opset 16: the same answers, and what has no older form is left alone."""

from functools import partial

import numpy as np
import onnxruntime
import pytest
from rewriting import assert_same_answers, attributes, model_at_18, rewritten, untouched

from samebox.graph.reading import all_nodes
from samebox.graph.rewrites import (
    constant_attributes,
    constant_axes,
    grid_sample,
    integer_min_max,
    or_equal,
    reshape_allowzero,
    resize_inputs,
    shape_start_end,
    softmax_axis,
    split_sizes,
    trilu,
)

axes = partial(constant_axes.rewrite, operators=constant_axes.OTHERS)
X = np.arange(-12, 12, dtype=np.float32).reshape(2, 3, 4)
N = np.array([[3, -4, 5], [0, 7, -1]])


def case(rewrite, opset, text, name):
    return pytest.param(rewrite, opset, text, id=name)


@pytest.mark.parametrize(
    ("rewrite", "opset", "text"),
    [
        case(
            axes,
            11,
            """g (float[2,3,4] x) => (float[2,4] y) <int64[1] one = {1}, int64[1] end = {-1}>
            { s = ReduceSum(x, one)  t = Unsqueeze(s, end)  u = Squeeze(t, end)  y = Squeeze(u, one) }""",
            "axes",
        ),
        case(
            shape_start_end.rewrite,
            11,
            "g (float[2,3,4] x) => (int64[2] y) { y = Shape<start = 0, end = -1>(x) }",
            "the shape's beginning",
        ),
        case(
            shape_start_end.rewrite,
            11,
            "g (float[2,3,4] x) => (int64[1] y) { y = Shape<start = -1>(x) }",
            "the shape's end",
        ),
        case(
            shape_start_end.rewrite,
            11,
            "g (float[2,3,4] x) => (int64[3] y) { y = Shape<start = 0>(x) }",
            "the whole shape",
        ),
        case(trilu.rewrite, 13, "g (float[2,3,4] x) => (float[2,3,4] y) { y = Trilu(x) }", "upper"),
        case(
            trilu.rewrite,
            13,
            "g (float[2,3,4] x) => (float[2,3,4] y) <int64 k = {-1}> { y = Trilu<upper = 0>(x, k) }",
            "lower",
        ),
        case(
            trilu.rewrite,
            13,
            """g (float[2,3,4] x) => (bool[2,3,4] y) <int64 k = {1}>
            { zero = Constant<value_float = 0.0>()  b = Less(x, zero)  y = Trilu(b, k) }""",
            "upper of truth values",
        ),
        case(
            reshape_allowzero.rewrite,
            13,
            """g (float[2,3,4] x) => (float[4,p] y) <int64[2] to = {4, -1}>
            { y = Reshape<allowzero = 1>(x, to) }""",
            "a shape without 0",
        ),
        case(
            reshape_allowzero.rewrite,
            13,
            """g (float[2,3,4] x) => (float[2,p] y) <int64[2] to = {0, -1}>
            { y = Reshape<allowzero = 0>(x, to) }""",
            "a 0 that copies",
        ),
        case(
            split_sizes.rewrite,
            11,
            """g (float[2,3,4] x) => (float[2,3,1] y, float[2,3,3] z) <int64[2] parts = {1, 3}>
            { y, z = Split<axis = 2>(x, parts) }""",
            "parts",
        ),
        case(
            softmax_axis.rewrite,
            12,
            "g (float[2,3,4] x) => (float[2,3,4] y) { y = Softmax(x) }",
            "softmax along the last axis",
        ),
        case(
            resize_inputs.rewrite,
            11,
            """g (float[2,3,4] x) => (float[2,6,8] y) <int64[3] to = {2, 6, 8}>
            { y = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric",
              nearest_mode = "floor">(x, , , to) }""",
            "sizes",
        ),
        case(
            resize_inputs.rewrite,
            11,
            """g (float[2,3,4] x) => (float[2,6,8] y) <float[3] by = {1, 2, 2}>
            { y = Resize<mode = "linear">(x, , by) }""",
            "scales",
        ),
        case(
            or_equal.rewrite,
            11,
            """g (float[2,3,4] x) => (bool[2,3,4] y, bool[2,3,4] z)
            { n = Constant<value = float {3}>()  y = GreaterOrEqual(x, n)  z = LessOrEqual(x, n) }""",
            "comparisons",
        ),
        case(
            integer_min_max.rewrite,
            11,
            """g (int64[2,3] n) => (int64[2,3] y, int64[2,3] z, int64[2,3] c, int64[2,3] d)
            <int64 one = {1}, int64 four = {4}> {
              y = Max(n, one, four)  z = Min(n, one)  c = Clip(n, one, four)  d = Clip(n, , four)
            }""",
            "integers",
        ),
        case(
            constant_attributes.rewrite,
            11,
            """g (float[2,3,4] x) => (float[2,3,4] y, int64[2] z) {
              a = Constant<value_float = 0.5>()  y = Mul(x, a)  z = Constant<value_ints = [1, 2]>()
            }""",
            "constants",
        ),
    ],
)
def test_the_same_answers(rewrite, opset, text):
    model = model_at_18(text)
    feed = {"x": X, "n": N}
    used = {value.name: feed[value.name] for value in model.graph.input}
    answers = assert_same_answers(model, rewritten(model, rewrite, opset), used)
    assert any(np.any(answer) for answer in answers)


def test_a_softmax_along_another_axis():
    model = model_at_18("g (float[2,3,4] x) => (float[2,3,4] y) { y = Softmax<axis = 1>(x) }")
    older = rewritten(model, softmax_axis.rewrite, 12)
    sessions = [onnxruntime.InferenceSession(one.SerializeToString()) for one in (older, model)]
    found, expected = (session.run(None, {"x": 30 * X}) for session in sessions)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)


@pytest.mark.parametrize("aligned", [0, 1])
def test_a_grid_is_sampled_within_the_map_at_its_edge_and_beyond(aligned):
    model = model_at_18(
        f"""g (float[n,3,h,w] x, float[n,4,5,2] grid) => (float[n,3,4,5] y)
        {{ y = GridSample<align_corners = {aligned}, mode = "bilinear", padding_mode = "zeros">(x, grid) }}"""
    )
    rng = np.random.default_rng(0)
    grid = rng.uniform(-1.4, 1.4, (2, 4, 5, 2)).astype(np.float32)
    grid[0, 0] = [[-1, -1], [1, 1], [-1, 1], [0, 0], [1, -1]]
    feed = {"x": rng.normal(size=(2, 3, 6, 7)).astype(np.float32), "grid": grid}
    sessions = [
        onnxruntime.InferenceSession(one.SerializeToString())
        for one in (rewritten(model, grid_sample.rewrite, 13), model)
    ]
    found, expected = (session.run(None, feed)[0] for session in sessions)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (expected == 0).any()
    assert np.abs(expected).max() > 0.5


def test_what_is_no_number_is_neither_more_nor_less():
    model = model_at_18("g (float[2] x) => (bool[2] y) { y = GreaterOrEqual(x, x) }")
    older = rewritten(model, or_equal.rewrite, 11)
    found = assert_same_answers(model, older, {"x": np.array([np.nan, 1], np.float32)})
    assert found[0].tolist() == [False, True]


def test_names_within_a_loop_are_its_own():
    model = model_at_18(
        """g (int64[3] n) => (int64[3] y, int64[1] s) <int64 trips = {2}, bool on = {1}, int64 one = {1}> {
          s = Shape<start = 0, end = 1>(n)
          y = Loop(trips, on, n) <body = body
            (int64 i, bool go, int64[3] a) => (bool go_on, int64[3] b)
            { go_on = Identity(go)  t = Shape<start = 0, end = 1>(a)  u = Max(t, one)  b = Add(a, u) }>
        }"""
    )
    older = rewritten(rewritten(model, shape_start_end.rewrite), integer_min_max.rewrite, 11)
    names = [name for node in all_nodes(older.graph) for name in node.output]
    assert len(names) == len(set(names))
    assert_same_answers(model, older, {"n": N[0]})


@pytest.mark.parametrize(
    ("rewrite", "text"),
    [
        (axes, "g (float[1,3] x, int64[1] a) => (float[3] y) { y = Squeeze(x, a) }"),
        (
            split_sizes.rewrite,
            "g (float[4] x, int64[2] s) => (float[p] y, float[q] z) { y, z = Split(x, s) }",
        ),
        (
            reshape_allowzero.rewrite,
            """g (float[p,3] x) => (float[q,3] y) <int64[2] to = {0, 3}>
            { y = Reshape<allowzero = 1>(x, to) }""",
        ),
        (
            grid_sample.rewrite,
            """g (float[1,1,2,2] x, float[1,2,2,2] grid) => (float[1,1,2,2] y)
            { y = GridSample<mode = "nearest">(x, grid) }""",
        ),
        (softmax_axis.rewrite, "g (float[2,3] x) => (float[2,3] y) { y = Softmax<axis = -1>(x) }"),
        (resize_inputs.rewrite, "g (float[2] x) => (float[2] y) { y = Relu(x) }"),
        (integer_min_max.rewrite, "g (float[2] x) => (float[2] y) { y = Max(x, x) }"),
        (shape_start_end.rewrite, "g (float[2] x) => (int64[1] y) { y = Shape(x) }"),
    ],
)
def test_left_alone(rewrite, text):
    assert untouched(model_at_18(text), rewrite)


def test_a_softmax_along_the_last_axis_is_still_one_node():
    model = model_at_18("g (float[2,3] x) => (float[2,3] y) { y = Softmax(x) }")
    older = rewritten(model, softmax_axis.rewrite, 12)
    assert [node.op_type for node in older.graph.node] == ["Softmax"]
    assert attributes(older) == {"axis": -1}
