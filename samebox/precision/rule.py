"""The rule that selects the nodes of a graph that may leave fp32."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

import onnx

Nodes = list[onnx.NodeProto]


@dataclass(frozen=True)
class PrecisionRule:
    """Selects the nodes that may leave fp32. All others stay, including the subgraphs of loops and branches.

    A *product* is a node whose operator is in `products` (such as Conv, Gemm, MatMul) and that multiplies by
    a stored weight. A MatMul of two computed tensors, as in RoIAlign, NMS and attention, is not a product.

    `between` lists operators (such as Add, Relu, Resize) that change to a 16-bit type together with the
    products: a node does if it reads values of that type only and if a converted node reads its output.
    So nothing after the last product of a head is converted.

    `keep` are patterns, as for file names, of operators, node names and weight names that stay in fp32.
    """

    products: Sequence[str]
    between: Sequence[str]
    keep: Sequence[str] = ()

    def keeps_fp32(self, node: onnx.NodeProto) -> bool:
        """Whether a pattern in `keep` matches the node's operator, its name or one of its weights."""
        names = (node.op_type, node.name, *node.input)
        return any(fnmatch(name, pattern) for name in names for pattern in self.keep)

    def weighted_products(self, graph: onnx.GraphProto) -> Nodes:
        """All products, including those that `keep` leaves in fp32."""
        constants = constant_tensors(graph)
        return [
            node
            for node in graph.node
            if node.op_type in self.products and any(name in constants for name in node.input[:2])
        ]

    def converted_products(self, graph: onnx.GraphProto, overflowing: Collection[str] = ()) -> Nodes:
        """The products to convert: those that do not match `keep` and touch no tensor in `overflowing`."""
        return [node for node in self.weighted_products(graph) if self._may_convert(node, overflowing)]

    def converted_nodes(self, graph: onnx.GraphProto, opset: int, overflowing: Collection[str] = ()) -> Nodes:
        """The products to convert to 16 bits and the nodes between them, in the graph's order."""
        converted = {node.output[0] for node in self.converted_products(graph, overflowing)}
        between = [
            node
            for node in graph.node
            if node.op_type in self.between and self._may_convert(node, overflowing)
        ]
        constants = constant_tensors(graph)
        reachable = set(converted)  # outputs computed from converted values only
        for node in between:
            values = [name for name in same_type_tensors(node, opset)[0] if name not in constants]
            if values and reachable.issuperset(values):
                reachable.add(node.output[0])
        read = {
            name
            for node in graph.node
            if node.output[0] in converted
            for name in same_type_tensors(node, opset)[0]
        }
        for node in reversed(between):
            if node.output[0] in reachable and read.intersection(node.output):
                converted.add(node.output[0])
                read.update(same_type_tensors(node, opset)[0])
        return [node for node in graph.node if node.output[0] in converted]

    def _may_convert(self, node: onnx.NodeProto, overflowing: Collection[str]) -> bool:
        return not self.keeps_fp32(node) and not set(overflowing).intersection((*node.input, *node.output))


def constant_tensors(graph: onnx.GraphProto) -> set[str]:
    """The names of the tensors that do not depend on the graph's inputs, those of subgraphs excluded."""
    constants = {tensor.name for tensor in graph.initializer} | {""}
    for node in graph.node:
        has_subgraph = any(attribute.HasField("g") for attribute in node.attribute)
        if not has_subgraph and constants.issuperset(node.input):
            constants.update(node.output)
    return constants - {""}


def same_type_tensors(node: onnx.NodeProto, opset: int) -> tuple[list[str], list[str]]:
    """The inputs and the outputs of a node that share the type parameter of its first output.

    That excludes, for example, the shape input of Reshape and the scales of Resize.
    """
    schema = onnx.defs.get_schema(node.op_type, opset)
    type_parameter = schema.outputs[0].type_str

    def same_type(names: Sequence[str], formals: Sequence[onnx.defs.OpSchema.FormalParameter]) -> list[str]:
        # the last formal parameter may be variadic, as that of Concat
        declared = ((name, formals[min(index, len(formals) - 1)]) for index, name in enumerate(names))
        return [name for name, formal in declared if name and formal.type_str == type_parameter]

    return same_type(node.input, schema.inputs), same_type(node.output, schema.outputs)
