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

# Modules a (of which a.b is a part) and c: a gives x, of which a.b's own u is a part, to c
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


def noted(model, **modules):
    """The exporter's notes at the nodes that give these tensors."""
    for node in model.graph.node:
        scopes = modules.get(node.output[0])
        if scopes is not None:
            node.metadata_props.add(key=SCOPES, value=repr(["", *scopes, node.output[0]]))
    return model


def test_an_output_is_what_others_read_of_the_innermost_module():
    model = noted(parser.parse_model(TEXT), u=["a", "a.b"], x=["a"], s=["a"], o=["c"], p=["c", "c.d"])
    assert module_outputs(model) == [("u", "a.b"), ("x", "a"), ("o", "c"), ("p", "c.d")]


def test_what_stays_in_a_module_and_whole_numbers_are_none():
    model = noted(parser.parse_model(TEXT), u=["a"], x=["a"], s=["a"], o=["a", "a.b"], p=["a", "a.c"])
    assert module_outputs(model) == [("o", "a.b"), ("p", "a.c")]


def test_a_subgraph_reads_for_the_module_of_its_node():
    model = noted(parser.parse_model(TEXT), u=["a"], x=["a"], s=["a"], o=["a"], p=["b"])
    assert ("x", "a") in module_outputs(model)


def test_an_exported_file_tells_the_modules_call_by_call(tmp_path):
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
def test_a_file_without_a_record_that_reads_is_refused(entries):
    with pytest.raises(SameboxError, match=r"^a\.onnx: .*export it anew$"):
        recorded_module_outputs(entries, "a.onnx")


def test_the_record_reads_as_it_was_written():
    outputs = [ModuleOutput("x", "network.é"), ModuleOutput("y", "")]
    model = onnx.ModelProto()
    helper.set_model_props(model, {MODULES_KEY: module_outputs_to_json(outputs)})
    assert recorded_module_outputs(metadata(model), "") == outputs
