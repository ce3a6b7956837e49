"""The precision of the nodes of a graph, read back from the graph itself."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from samebox.core.errors import SameboxError
from samebox.precision.rule import PrecisionRule
from samebox.precision.sixteen_bit import SIXTEEN_BIT_TYPES

# ONNX type → precision
PRECISION_NAMES: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    **{onnx_type: precision for precision, (onnx_type, _) in SIXTEEN_BIT_TYPES.items()},
}
INT8 = (TensorProto.INT8, TensorProto.UINT8)


@dataclass(frozen=True)
class AchievedPrecision:
    """The precision in which a graph computes.

    `products` maps the name of each product (see `PrecisionRule`) to its precision. `operators` counts, by
    type and operator, the nodes whose first output holds real numbers, those of subgraphs excluded.
    """

    products: dict[str, str]
    operators: dict[str, dict[str, int]]

    def counts(self) -> dict[str, int]:
        """The number of products in each precision."""
        return dict(sorted(Counter(self.products.values()).items()))

    def __str__(self) -> str:
        counts = ", ".join(f"{count} in {precision}" for precision, count in self.counts().items())
        return f"{len(self.products)} products with weights: {counts or 'none'}"


def achieved_precision(model: onnx.ModelProto, rule: PrecisionRule) -> AchievedPrecision:
    """The precision of the nodes of `model`; `rule` defines which nodes are products."""
    types = element_types(model)
    producers = {name: node for node in model.graph.node for name in node.output}
    products = {node.name: _precision(node, types, producers) for node in rule.weighted_products(model.graph)}
    operators: dict[str, Counter[str]] = defaultdict(Counter)
    for node in model.graph.node:
        precision = PRECISION_NAMES.get(types.get(node.output[0], 0))
        if precision:
            operators[precision][node.op_type] += 1
    return AchievedPrecision(
        products, {precision: dict(sorted(counts.items())) for precision, counts in operators.items()}
    )


def check_achieved_precision(
    achieved: AchievedPrecision, precision: str, converted: Collection[str], file: str
) -> None:
    """Raises SameboxError unless all products named in `converted`, and at least one, are in `precision`.

    The error starts with the name `file`.
    """
    missing = [name for name in converted if achieved.products.get(name) != precision]
    if missing or precision not in achieved.products.values():
        example = f" ({missing[0]} is not converted)" if missing else ""
        raise SameboxError(
            f"{file}: {precision} was requested, but it has {achieved}{example}; create it again"
        )


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """The ONNX type of every tensor of the graph by ONNX's shape inference, those of subgraphs excluded."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.output, *graph.value_info)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _precision(
    node: onnx.NodeProto, types: Mapping[str, int], producers: Mapping[str, onnx.NodeProto]
) -> str:
    """The precision of a product: int8 if both factors are dequantized from int8, else its output's type."""
    factors = [producers.get(name) for name in node.input[:2]]
    if all(f is not None and f.op_type == "DequantizeLinear" and types[f.input[0]] in INT8 for f in factors):
        return "int8"
    return PRECISION_NAMES.get(types.get(node.output[0], 0), "another type")
