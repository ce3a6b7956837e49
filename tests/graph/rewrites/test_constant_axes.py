from functools import partial

import numpy as np
import pytest
from rewriting import assert_same_outputs, attributes, is_unchanged, model_at_18, rewritten

from samebox.graph.rewrites import constant_axes

REDUCTIONS = partial(constant_axes.rewrite, operators=constant_axes.REDUCTIONS)
OTHERS = partial(constant_axes.rewrite, operators=constant_axes.OTHERS)
X = {"x": np.random.default_rng(0).uniform(0.1, 1, (2, 3, 4)).astype(np.float32)}


@pytest.mark.parametrize("operator", sorted(constant_axes.REDUCTIONS))
def test_axes_of_a_reduction_become_an_attribute(operator):
    model = model_at_18(
        f"""g (float[2,3,4] x) => (float[2,3] y) <int64[1] axes = {{-1}}>
        {{ y = {operator}<keepdims = 0>(x, axes) }}"""
    )
    older = rewritten(model, REDUCTIONS)
    assert list(older.graph.node[0].input) == ["x"]
    assert attributes(older) == {"axes": [-1], "keepdims": 0}
    assert_same_outputs(model, older, X)


def test_axes_from_a_constant_node():
    model = model_at_18(
        """g (float[2,3,4] x) => (float[1,3,1] y) {
          axes = Constant<value_ints = [0, 2]>()
          y = ReduceMax(x, axes)
        }"""
    )
    older = rewritten(model, REDUCTIONS)
    assert attributes(older, 1)["axes"] == [0, 2]
    assert_same_outputs(model, older, X)


def test_axes_of_other_operators_become_an_attribute():
    model = model_at_18(
        """g (float[2,3,4] x) => (float[2,4] y) <int64[1] one = {1}, int64[1] end = {-1}>
        { s = ReduceSum(x, one)  t = Unsqueeze(s, end)  u = Squeeze(t, end)  y = Squeeze(u, one) }"""
    )
    older = rewritten(model, OTHERS, 11)
    assert [attributes(older, index)["axes"] for index in range(4)] == [[1], [-1], [-1], [1]]
    assert_same_outputs(model, older, X)


@pytest.mark.parametrize("call", ["ReduceMax<noop_with_empty_axes = 0>(x)", "ReduceMax(x, none)"])
def test_without_axes_all_axes_are_reduced(call):
    model = model_at_18(f"g (float[2,3,4] x) => (float[1,1,1] y) <int64[0] none = {{}}> {{ y = {call} }}")
    older = rewritten(model, REDUCTIONS)
    assert list(older.graph.node[0].input) == ["x"]
    assert assert_same_outputs(model, older, X)[0].item() == X["x"].max()


def test_a_reduction_in_the_body_of_a_loop():
    model = model_at_18(
        """g (float[2,3,4] x) => (float[2,3,4] y) <int64 trips = {2}, bool on = {1}, int64[1] axes = {1}> {
          y = Loop(trips, on, x) <body = body
            (int64 i, bool go, float[2,3,4] s) => (bool go_on, float[2,3,4] less)
            { go_on = Identity(go)  m = ReduceMax(s, axes)  less = Sub(s, m) }>
        }"""
    )
    assert_same_outputs(model, rewritten(model, REDUCTIONS), X)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            "g (float[2,3,4] x) => (float[2,3,4] y) { y = ReduceMax<noop_with_empty_axes = 1>(x) }",
            id="the identity of opset 18",
        ),
        pytest.param(
            "g (float[2,3,4] x, int64[1] axes) => (float y) { y = ReduceMax<keepdims = 0>(x, axes) }",
            id="axes known only at run time",
        ),
        pytest.param(
            "g (float[2,3,4] x) => (float[2,3,1] y) <int64[1] axes = {2}> { y = ReduceSum(x, axes) }",
            id="ReduceSum, whose axes are an input at opset 17 as well",
        ),
        pytest.param("g (float[2,3,4] x) => (float[2,3,4] y) { y = Relu(x) }", id="another operator"),
    ],
)
def test_unchanged(text):
    assert is_unchanged(model_at_18(text), REDUCTIONS)


def test_axes_of_squeeze_known_only_at_run_time_stay():
    model = model_at_18("g (float[1,3] x, int64[1] a) => (float[3] y) { y = Squeeze(x, a) }")
    assert is_unchanged(model, OTHERS)
