import numpy as np
import onnx_ir as ir
import pytest
from rewriting import assert_same_outputs, attributes, is_unchanged, model_at_18, rewritten

from samebox.graph.rewrites import default_attributes

X = {"x": np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)}
GRAPH = """g (float[1,2,3,4] x) => (float[1,2,5,7] y) <int64[4] sizes = {{1, 2, 5, 7}}>
{{ y = Resize<{}>(x, , , sizes) }}"""


@pytest.mark.parametrize(
    "mode", ['mode = "nearest"', 'mode = "linear"', 'mode = "cubic", cubic_coeff_a = -0.5']
)
@pytest.mark.parametrize(
    "newer",
    [
        'antialias = 0, keep_aspect_ratio_policy = "stretch"',
        "antialias = 0",
        'keep_aspect_ratio_policy = "stretch"',
    ],
)
def test_defaults_are_removed(mode, newer):
    model = model_at_18(GRAPH.format(f"{mode}, {newer}"))
    older = rewritten(model, default_attributes.rewrite)
    kept = attributes(older)
    assert kept.keys() <= {"mode", "cubic_coeff_a"}
    assert kept.items() <= attributes(model).items()
    assert_same_outputs(model, older, X)


def test_a_default_is_removed_even_if_another_attribute_stays():
    model = model_at_18(GRAPH.format('mode = "linear", antialias = 1, keep_aspect_ratio_policy = "stretch"'))
    graph = ir.from_proto(model)
    assert default_attributes.rewrite(graph)
    assert set(attributes(ir.to_proto(graph))) == {"mode", "antialias"}


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param('mode = "linear"', id="no newer attribute"),
        pytest.param('mode = "linear", antialias = 1', id="antialiased"),
        pytest.param('mode = "linear", keep_aspect_ratio_policy = "not_larger"', id="ratio kept"),
    ],
)
def test_unchanged(settings):
    assert is_unchanged(model_at_18(GRAPH.format(settings)), default_attributes.rewrite)


@pytest.mark.parametrize(
    "call",
    [
        "GatherND<batch_dims = 0>(x, i)",
        'ScatterND<reduction = "none">(x, i, x)',
        'ScatterElements<axis = 1, reduction = "none">(x, i, i_x)',
        "BatchNormalization<training_mode = 0>(x, w, w, w, w)",
    ],
)
def test_defaults_of_other_operators(call):
    model = model_at_18(
        f"""g (float[2,3] x, int64[2,1] i) => (float[2,3] y) <float[3] w = {{1, 2, 3}}>
        {{ i_x = Cast<to = 1>(i)  z = {call}  y = Add(z, w) }}"""
    )
    feed = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "i": np.array([[1], [0]])}
    assert_same_outputs(model, rewritten(model, default_attributes.rewrite, 11), feed)
