import numpy as np
import pytest
from rewriting import is_unchanged, model_at_18, operators, outputs_of, rewritten

from samebox.graph.rewrites import layer_norm

FEED = {
    "x": np.random.default_rng(0).normal(3, 5, (2, 4, 6)).astype(np.float32),
    "scale": np.linspace(0.5, 2, 6, dtype=np.float32),
    "bias": np.linspace(-1, 1, 6, dtype=np.float32),
}


@pytest.mark.parametrize(
    ("declared", "inputs", "attributes"),
    [
        ("float[2,n,6] x, float[6] scale, float[6] bias", "x, scale, bias", "axis = -1, epsilon = 0.5"),
        ("float[2,4,6] x, float[6] scale", "x, scale", "axis = 2"),
        ("float[2,4,6] x, float[4,6] scale", "x, scale", "axis = -2"),
    ],
)
def test_it_becomes_operators_of_opset_13(declared, inputs, attributes):
    feed = FEED | ({"scale": FEED["x"][0]} if "4,6] scale" in declared else {})
    feed = {name: feed[name] for name in inputs.split(", ")}
    model = model_at_18(
        f"g ({declared}) => (float[2,n,6] y) {{ y = LayerNormalization<{attributes}>({inputs}) }}"
    )
    older = rewritten(model, layer_norm.rewrite)
    assert "LayerNormalization" not in operators(older)
    (output,), (expected,) = outputs_of(older, feed), outputs_of(model, feed)
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-5)


def test_an_output_of_the_graph_keeps_its_name():
    model = model_at_18("g (float[2,6] x, float[6] s) => (float[2,6] y) { y = LayerNormalization(x, s) }")
    older = rewritten(model, layer_norm.rewrite)
    assert [value.name for value in older.graph.output] == ["y"]


def test_one_with_the_mean_as_an_output_stays():
    text = "g (float[2,6] x, float[6] s) => (float[2,6] y, float[2,1] m) { y, m = LayerNormalization(x, s) }"
    assert is_unchanged(model_at_18(text), layer_norm.rewrite)
