import numpy as np
import onnxruntime
import pytest
from rewriting import model_at_18, rewritten, untouched

from samebox.graph.rewrites import layer_norm

FEED = {
    "x": np.random.default_rng(0).normal(3, 5, (2, 4, 6)).astype(np.float32),
    "scale": np.linspace(0.5, 2, 6, dtype=np.float32),
    "bias": np.linspace(-1, 1, 6, dtype=np.float32),
}


def answers(model, feed):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {value.name: feed[value.name] for value in model.graph.input})[0]


@pytest.mark.parametrize(
    ("given", "inputs", "attributes"),
    [
        ("float[2,n,6] x, float[6] scale, float[6] bias", "x, scale, bias", "axis = -1, epsilon = 0.5"),
        ("float[2,4,6] x, float[6] scale", "x, scale", "axis = 2"),
        ("float[2,4,6] x, float[4,6] scale", "x, scale", "axis = -2"),
    ],
)
def test_written_out(given, inputs, attributes):
    feed = FEED | ({"scale": FEED["x"][0]} if "4,6] scale" in given else {})
    model = model_at_18(
        f"g ({given}) => (float[2,n,6] y) {{ y = LayerNormalization<{attributes}>({inputs}) }}"
    )
    older = rewritten(model, layer_norm.rewrite)
    assert "LayerNormalization" not in {node.op_type for node in older.graph.node}
    np.testing.assert_allclose(answers(older, feed), answers(model, feed), rtol=1e-5, atol=1e-5)


def test_its_name_stays_that_of_the_graph_s_output():
    model = model_at_18("g (float[2,6] x, float[6] s) => (float[2,6] y) { y = LayerNormalization(x, s) }")
    older = rewritten(model, layer_norm.rewrite)
    assert [value.name for value in older.graph.output] == ["y"]


def test_one_whose_mean_is_wanted_is_left_alone():
    text = "g (float[2,6] x, float[6] s) => (float[2,6] y, float[2,1] m) { y, m = LayerNormalization(x, s) }"
    assert untouched(model_at_18(text), layer_norm.rewrite)
