import onnx
import pytest
from onnx import helper, parser
from small_network import MODULES, small_file

from samebox.core.errors import SameboxError
from samebox.graph.module_outputs import (
    MODULES_KEY,
    SCOPES,
    ModuleOutput,
    module_outputs,
    module_outputs_to_json,
    recorded_module_outputs,
)
from samebox.graph.reading import metadata, onnx_model

# Operators of the modules a, a.b and c, which the tests assign: u may be internal to a, and o reads x
TEXT = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[N] i) => (float[N] o, float[N] p) <float[M] u, float[N] x, int64[1] s, bool go> {
  u = Relu(i)
  x = Neg(u)
  s = Shape(x)
  o = Expand(x, s)
  go = Cast<to = 9>(s)
  p = If(go) <then_branch = yes () => (float[N] y) { y = Exp(x) },
              else_branch = no () => (float[N] z) { z = Abs(x) }>
}
"""


def with_scopes(model, **modules):
    """The model with the exporter's module scopes at the nodes that write these tensors."""
    for node in model.graph.node:
        scopes = modules.get(node.output[0])
        if scopes is not None:
            node.metadata_props.add(key=SCOPES, value=repr(["", *scopes, node.output[0]]))
    return model


def test_an_output_is_read_outside_the_innermost_module():
    model = with_scopes(parser.parse_model(TEXT), u=["a", "a.b"], x=["a"], s=["a"], o=["c"], p=["c", "c.d"])
    assert module_outputs(model) == [("u", "a.b"), ("x", "a"), ("o", "c"), ("p", "c.d")]


def test_internal_tensors_and_integers_are_no_outputs():
    model = with_scopes(parser.parse_model(TEXT), u=["a"], x=["a"], s=["a"], o=["a", "a.b"], p=["a", "a.c"])
    assert module_outputs(model) == [("o", "a.b"), ("p", "a.c")]


def test_a_tensor_that_a_subgraph_reads_is_read_by_the_module_of_its_node():
    model = with_scopes(parser.parse_model(TEXT), u=["a"], x=["a"], s=["a"], o=["a"], p=["b"])
    assert ("x", "a") in module_outputs(model)


def test_an_exported_file_records_each_call_of_a_module(tmp_path):
    path = small_file(tmp_path / "small.onnx")
    model = onnx_model(path)
    outputs = recorded_module_outputs(metadata(model), str(path))
    assert [module for _, module in outputs] == MODULES
    assert {"near", "far"} < {tensor for tensor, _ in outputs}
    assert {tensor for tensor, _ in outputs} <= {name for node in model.graph.node for name in node.output}
    assert not any(node.metadata_props for node in model.graph.node)


@pytest.mark.parametrize(
    "entries", [{}, {MODULES_KEY: "{"}, {MODULES_KEY: "[1]"}, {MODULES_KEY: "[[1,2,3]]"}]
)
def test_a_missing_or_damaged_record_is_an_error(entries):
    with pytest.raises(SameboxError, match=r"^a\.onnx: .*export it again$"):
        recorded_module_outputs(entries, "a.onnx")


def test_the_record_is_read_back():
    outputs = [ModuleOutput("x", "network.é"), ModuleOutput("y", "")]
    model = onnx.ModelProto()
    helper.set_model_props(model, {MODULES_KEY: module_outputs_to_json(outputs)})
    assert recorded_module_outputs(metadata(model), "") == outputs
