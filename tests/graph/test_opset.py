import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from tiny_onnx import METADATA, tiny_model

from samebox.core.errors import SameboxError
from samebox.graph import opset
from samebox.graph.opset import OLDEST_OPSET, at_opset, check_opset, newest_opset
from samebox.graph.reading import all_nodes

FEED = {
    "images": np.random.default_rng(0).uniform(0, 255, (2, 3, 64, 96)).astype(np.float32),
    "sizes": np.array([[64, 96], [40, 50]]),
}


# Opset → the lowest IR version, by ONNX's table of releases (docs/Versioning.md)
IR_VERSIONS = {11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10}


def session(model):
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def outputs_of(model):
    return session(model).run(None, FEED)


def model_at_18(text):
    return onnx.shape_inference.infer_shapes(
        parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text}')
    )


def test_the_newest_opset_is_the_last_that_onnxruntime_loads():
    assert OLDEST_OPSET < newest_opset() <= onnx.defs.onnx_opset_version()
    model = tiny_model()
    model.opset_import[0].version = newest_opset()
    session(model)
    model.opset_import[0].version = newest_opset() + 1
    with pytest.raises(Fail, match=f"Opset {newest_opset() + 1} is under development"):
        session(model)


@pytest.mark.parametrize("version", [10, 99, 0, -1, "18", None, 17.0])
def test_an_opset_out_of_range_is_an_error(version):
    with pytest.raises(SameboxError) as caught:
        check_opset(version)
    assert str(caught.value).startswith(f"export.opset: {version} is outside 11..{newest_opset()}")
    assert "\n" not in str(caught.value)
    with pytest.raises(SameboxError, match="outside 11"):
        at_opset(tiny_model(), version)


@pytest.mark.parametrize("version", range(OLDEST_OPSET, newest_opset() + 1))
def test_the_outputs_are_equal_at_every_opset(version):
    check_opset(version)
    model = at_opset(tiny_model(), version)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", version)]
    assert model.ir_version == IR_VERSIONS.get(version, model.ir_version)
    assert [entry.value for entry in model.metadata_props] == [METADATA]
    assert any(node.op_type == "Loop" for node in all_nodes(model.graph))
    for output, expected in zip(outputs_of(model), outputs_of(tiny_model()), strict=True):
        np.testing.assert_array_equal(output, expected)


@pytest.mark.parametrize("version", [16, 18, newest_opset()])
def test_the_given_model_is_not_changed(version):
    model = tiny_model()
    before = model.SerializeToString(deterministic=True)
    at_opset(model, version)
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("version", [16, 17])
@pytest.mark.parametrize(
    ("operator", "text"),
    [
        pytest.param("Mish", "g (float[n] x) => (float[n] y) { y = Mish(x) }", id="an operator of 18"),
        pytest.param(
            "ReduceMax",
            "g (float[2,3] x, int64[1] a) => (float[2,m] y) { y = ReduceMax(x, a) }",
            id="an input of 18",
        ),
        pytest.param(
            "Split",
            "g (float[n,6] x) => (float[p,6] a, float[q,6] b) { a, b = Split<num_outputs = 2>(x) }",
            id="an attribute of 18",
        ),
        pytest.param(
            "ScatterND",
            """g (float[n] x, int64[m,1] i, float[m] u) => (float[n] y)
            { y = ScatterND<reduction = "max">(x, i, u) }""",
            id="an attribute value of 18",
        ),
        pytest.param(
            "Mish",
            """g (float[n] x) => (float[n] y) <int64 trips = {2}, bool on = {1}> {
              y = Loop(trips, on, x) <body = body (int64 i, bool go, float[n] s) => (bool go_on, float[n] t)
                { go_on = Identity(go)  t = Mish(s) }>
            }""",
            id="an operator of 18 in a loop body",
        ),
    ],
)
def test_an_operator_that_cannot_be_downgraded_is_named(operator, text, version):
    with pytest.raises(SameboxError) as caught:
        at_opset(model_at_18(text), version)
    assert (
        str(caught.value)
        == f"export.opset: {operator} cannot be written at opset {version}; set export.opset=18"
    )


def test_several_rewrites_of_one_graph():
    model = model_at_18(
        """g (float[1,4,6,8] x) => (float[1,2,1,16] y, float[1,2,12,1] z)
        <int64[4] sizes = {1, 4, 12, 15}, int64[1] one = {1}, int64[2] pads = {0, 1}, int64[1] last = {-1},
         int64[1] rows = {2}> {
          larger = Resize<mode = "nearest", antialias = 0, keep_aspect_ratio_policy = "stretch">(x, , , sizes)
          padded = Pad(larger, pads, , last)
          a, b = Split<axis = 1, num_outputs = 2>(padded)
          y = ReduceMax(a, rows)
          z = ReduceMean<noop_with_empty_axes = 0>(b, last)
        }"""
    )
    feed = {"x": np.random.default_rng(0).normal(size=(1, 4, 6, 8)).astype(np.float32)}
    older = at_opset(model, opset.OLDEST_OPSET)
    onnx.checker.check_model(older, full_check=True)
    for output, expected in zip(session(older).run(None, feed), session(model).run(None, feed), strict=True):
        np.testing.assert_array_equal(output, expected)
