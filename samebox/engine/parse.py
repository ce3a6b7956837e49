"""TensorRT's network from an ONNX file, or an error that names the nodes that TensorRT does not support."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from samebox.core.errors import SameboxError
from samebox.engine.flavour import flavour_name, tensorrt_logger
from samebox.graph.reading import all_nodes

# TensorRT's limit on the K of a TopK layer
LARGEST_K = 3840

# Operators that export.lowering=portable replaces. TopK: with a K above the limit.
LOWERED = {"NonMaxSuppression", "RoiAlign", "NonZero", "DeformConv", "TopK"}

# TensorRT-RTX's parser claims to support these, but its builder finds no kernel (NonMaxSuppression) or no
# plugin (NonZero), or needs a GPU (RoiAlign).
UNSUPPORTED_BY_RTX = {"NonMaxSuppression", "RoiAlign", "NonZero"}

# Nodes that an error names
_MOST_NODES = 8


def network_from_onnx(trt: Any, builder: Any, model: onnx.ModelProto, source: Path) -> Any:
    """The strongly typed network of `model`, the content of `source`.

    Raises SameboxError that names each node that TensorRT does not support, with a fix.
    """
    logger = tensorrt_logger(trt)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    refused = dict(_unsupported(trt, parser, model.graph))
    logger.errors.clear()
    parsed = parser.parse_from_file(str(source))
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        refused.setdefault((error.node_name(), error.node_operator()), " ".join(error.desc().split()))
    if refused:
        raise SameboxError(f"{source}: {_refusal_text(refused)}")
    if not parsed:
        raise SameboxError(f"{source}: {flavour_name(trt)} cannot parse it: {logger.error_text()}")
    return network


def _unsupported(trt: Any, parser: Any, graph: onnx.GraphProto) -> Iterator[tuple[tuple[str, str], str]]:
    """((node name, operator), reason) for each node that TensorRT is known not to support."""
    constants = _integer_constants(graph)
    for node in all_nodes(graph):
        unsupported = trt.__name__ == "tensorrt_rtx" and node.op_type in UNSUPPORTED_BY_RTX
        if unsupported or not parser.supports_operator(node.op_type):
            yield (node.name, node.op_type), f"{flavour_name(trt)} does not support this operator"
        elif node.op_type == "TopK" and constants.get(node.input[1], 0) > LARGEST_K:
            yield (node.name, node.op_type), f"K={constants[node.input[1]]} is above {LARGEST_K}"


def _integer_constants(graph: onnx.GraphProto) -> dict[str, int]:
    """The constants of the graph and its subgraphs that hold a single integer, by tensor name."""
    nodes = list(all_nodes(graph))
    graphs = [graph, *(a.g for node in nodes for a in node.attribute if a.HasField("g"))]
    values: dict[str, Any] = {tensor.name: tensor for part in graphs for tensor in part.initializer}
    for node in nodes:
        if node.op_type == "Constant":
            values[node.output[0]] = onnx.helper.get_attribute_value(node.attribute[0])
    return {name: integer for name, value in values.items() if (integer := _integer(value)) is not None}


def _integer(value: Any) -> int | None:
    """The integer in a tensor, a number or a list, or None unless it holds exactly one."""
    if isinstance(value, onnx.TensorProto):
        single = value.data_type == onnx.TensorProto.INT64 and math.prod(value.dims) == 1
        return int(numpy_helper.to_array(value).item()) if single else None
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    return value if isinstance(value, int) else None


def _refusal_text(refused: dict[tuple[str, str], str]) -> str:
    """One line that names the nodes, each with the reason and a fix."""
    nodes = [
        f"{name or 'a node without a name'} ({operator}): {reason}, {_hint(operator)}"
        for (name, operator), reason in refused.items()
    ]
    more = f"; and {len(nodes) - _MOST_NODES} more" if len(nodes) > _MOST_NODES else ""
    count = "1 node does" if len(nodes) == 1 else f"{len(nodes)} nodes do"
    return f"{count} not parse: {'; '.join(nodes[:_MOST_NODES])}{more}"


def _hint(operator: str) -> str:
    if operator in LOWERED:
        return "export with export.lowering=portable, which replaces it"
    return "no lowering replaces it, so change the network"
