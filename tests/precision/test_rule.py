from dataclasses import replace

from onnx import parser
from tiny_precision import RULE, tiny

from samebox.precision.rule import constant_tensors, same_type_tensors


def names(nodes):
    return [node.output[0] for node in nodes]


def test_no_node_after_the_last_product_is_converted():
    assert names(RULE.converted_nodes(tiny().graph, 18)) == [
        "stem",
        "active",
        "smaller",
        "body",
        "summed",
        "logits",
    ]


def test_a_matmul_of_two_computed_tensors_is_no_product():
    graph = parser.parse_graph(
        "g (float[2,2] x) => (float[2,2] y) <float[2,2] w = {1,2,3,4}> { a = MatMul(x, w)  y = MatMul(a, a) }"
    )
    assert names(RULE.weighted_products(graph)) == ["a"]


def test_a_transposed_weight_is_a_constant():
    graph = parser.parse_graph(
        "g (float[2,2] x) => (float[2,2] y) <float[2,2] w = {1,2,3,4}> { t = Transpose(w)  y = MatMul(x, t) }"
    )
    assert constant_tensors(graph) == {"w", "t"}
    assert names(RULE.converted_products(graph)) == ["y"]


def test_a_node_with_an_fp32_input_is_not_converted():
    graph = parser.parse_graph(
        "g (float[2,2] x) => (float[2,2] y) <float[2,2] w = {1,2,3,4}>"
        "{ a = MatMul(x, w)  r = Relu(a)  e = Exp(a)  s = Add(r, e)  y = MatMul(s, w) }"
    )
    assert names(RULE.converted_nodes(graph, 18)) == ["a", "y"]


def test_keep_matches_operators_nodes_and_weights():
    graph = tiny().graph
    assert names(replace(RULE, keep=["w_h*"]).converted_products(graph)) == ["stem", "body"]
    assert names(replace(RULE, keep=["Conv"]).weighted_products(graph)) == ["stem", "body", "logits"]
    assert names(replace(RULE, keep=["Conv"]).converted_products(graph)) == []
    assert names(replace(RULE, keep=["node_stem"]).converted_products(graph)) == ["body", "logits"]


def test_nodes_that_touch_an_overflowing_tensor_stay():
    assert names(RULE.converted_nodes(tiny().graph, 18, {"body"})) == ["stem", "logits"]


def test_scales_of_resize_and_shapes_have_another_type():
    node = next(node for node in tiny().graph.node if node.op_type == "Resize")
    assert same_type_tensors(node, 18) == (["active"], ["smaller"])
    graph = parser.parse_graph("g (float[4] x, int64[2] s) => (float[2,2] y) { y = Reshape(x, s) }")
    assert same_type_tensors(graph.node[0], 18) == (["x"], ["y"])
    graph = parser.parse_graph("g (float[4] x, float[4] z) => (float[12] y) { y = Concat<axis=0>(x, z, x) }")
    assert same_type_tensors(graph.node[0], 18) == (["x", "z", "x"], ["y"])
