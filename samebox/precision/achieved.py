"""The precisions that stand in a graph, read back from it."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from samebox.core.errors import SameboxError
from samebox.precision.rule import Rule

CALLED: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
}
INT8 = (TensorProto.INT8, TensorProto.UINT8)


@dataclass(frozen=True)
class Achieved:
    """What was found in a graph.

    `products` gives the precision of each product with stored weights, by the node's name. `operators`
    counts the nodes that give real numbers by type and operator, subgraphs left out.
    """

    products: dict[str, str]
    operators: dict[str, dict[str, int]]

    def counts(self) -> dict[str, int]:
        """How many products there are of each precision."""
        return dict(sorted(Counter(self.products.values()).items()))

    def __str__(self) -> str:
        parts = ", ".join(f"{count} in {name}" for name, count in self.counts().items())
        return f"of {len(self.products)} products with weights {parts or 'none'}"


def achieved(model: onnx.ModelProto, rule: Rule) -> Achieved:
    """What stands in `model`, whose products are those of `rule`."""
    types = element_types(model)
    producers = {name: node for node in model.graph.node for name in node.output}
    products = {node.name: _precision(node, types, producers) for node in rule.weighted(model.graph)}
    operators: dict[str, Counter[str]] = defaultdict(Counter)
    for node in model.graph.node:
        if types.get(node.output[0]) in CALLED:
            operators[CALLED[types[node.output[0]]]][node.op_type] += 1
    return Achieved(products, {kind: dict(sorted(found.items())) for kind, found in operators.items()})


def check_achieved(found: Achieved, asked: str, chosen: Collection[str], name: str) -> None:
    """Raise SameboxError unless a product is in `asked`, and all of those `chosen` are.

    `name` is the file's.
    """
    missing = [node for node in chosen if found.products.get(node) != asked]
    if missing or asked not in found.products.values():
        first = f", among the others {missing[0]}" if missing else ""
        raise SameboxError(f"{name}: asked for {asked}, and {found}{first}; make it anew")


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """ONNX's type of every tensor of the graph itself, as its own inference has it."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.output, *graph.value_info)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _precision(
    node: onnx.NodeProto, types: Mapping[str, int], producers: Mapping[str, onnx.NodeProto]
) -> str:
    """The precision that a product computes in: int8 where both factors come out of int8."""
    factors = [producers.get(name) for name in node.input[:2]]
    if all(f is not None and f.op_type == "DequantizeLinear" and types[f.input[0]] in INT8 for f in factors):
        return "int8"
    return CALLED.get(types.get(node.output[0], 0), "another type")
