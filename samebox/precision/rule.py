"""Which nodes of a graph may leave fp32."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

import onnx

Nodes = list[onnx.NodeProto]


@dataclass(frozen=True)
class Rule:
    """What may leave fp32; all else stays, the subgraphs of loops and branches among it.

    `products` are operators that multiply by stored weights: a product of two computed tensors, as in
    RoIAlign, NMS and attention, is none. `between` are operators that follow in the same type where all that
    they take is in it, and something that takes what they give: nothing behind the last product of a head is.
    `keep` are patterns, as of files, of operators and of the names of nodes or weights that stay fp32.
    """

    products: Sequence[str]
    between: Sequence[str]
    keep: Sequence[str] = ()

    def kept(self, node: onnx.NodeProto) -> bool:
        """Whether `keep` names the node, its operator or one of its weights."""
        names = (node.op_type, node.name, *node.input)
        return any(fnmatch(name, pattern) for name in names for pattern in self.keep)

    def weighted(self, graph: onnx.GraphProto) -> Nodes:
        """The products with stored weights, whether they are kept or not."""
        stored = stored_names(graph)
        return [
            node
            for node in graph.node
            if node.op_type in self.products and any(name in stored for name in node.input[:2])
        ]

    def chosen(self, graph: onnx.GraphProto, beyond: Collection[str] = ()) -> Nodes:
        """The products that leave fp32: not kept, and touching no tensor that is `beyond` the type."""
        return [
            node
            for node in self.weighted(graph)
            if not self.kept(node) and not set(beyond).intersection((*node.input, *node.output))
        ]

    def region(self, graph: onnx.GraphProto, opset: int, beyond: Collection[str] = ()) -> Nodes:
        """The products that leave fp32 and what lies between them, in the graph's order."""
        stored = stored_names(graph)
        inside = {node.output[0] for node in self.chosen(graph, beyond)}
        candidates = [
            node
            for node in graph.node
            if node.op_type in self.between
            and not self.kept(node)
            and not set(beyond).intersection((*node.input, *node.output))
        ]
        fed = set(inside)
        for node in candidates:
            taken = [name for name in typed(node, opset)[0] if name not in stored]
            if taken and fed.issuperset(taken):
                fed.add(node.output[0])
        wanted = {name for node in graph.node if node.output[0] in inside for name in typed(node, opset)[0]}
        for node in reversed(candidates):
            if node.output[0] in fed and wanted.intersection(node.output):
                inside.add(node.output[0])
                wanted.update(typed(node, opset)[0])
        return [node for node in graph.node if node.output[0] in inside]


def stored_names(graph: onnx.GraphProto) -> set[str]:
    """The tensors that do not depend on the graph's inputs, its subgraphs left out."""
    stored = {tensor.name for tensor in graph.initializer} | {""}
    for node in graph.node:
        subgraphs = any(attribute.HasField("g") for attribute in node.attribute)
        if not subgraphs and stored.issuperset(node.input):
            stored.update(node.output)
    return stored - {""}


def typed(node: onnx.NodeProto, opset: int) -> tuple[list[str], list[str]]:
    """The inputs and the outputs of a node that share the type of its first output.

    So not the shape that a Reshape takes, nor the factors of a Resize.
    """
    schema = onnx.defs.get_schema(node.op_type, opset)
    kind = schema.outputs[0].type_str

    def alike(names: Sequence[str], formals: Sequence[onnx.defs.OpSchema.FormalParameter]) -> list[str]:
        # the last formal parameter may stand for many, as that of Concat does
        declared = ((name, formals[min(index, len(formals) - 1)]) for index, name in enumerate(names))
        return [name for name, formal in declared if name and formal.type_str == kind]

    return alike(node.input, schema.inputs), alike(node.output, schema.outputs)
