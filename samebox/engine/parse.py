"""An ONNX file to TensorRT's network, or the nodes that TensorRT does not take."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from samebox.core.errors import SameboxError
from samebox.engine.flavour import called, tensorrt_logger
from samebox.graph.reading import all_nodes

# TensorRT's own limit on the K of a TopK layer.
LARGEST_K = 3840

# Operators that export.lowering=portable does without; of TopK, those of a large K.
LOWERED = {"NonMaxSuppression", "RoiAlign", "NonZero", "DeformConv", "TopK"}

# The parser of TensorRT-RTX claims these, and then finds no kernel (NonMaxSuppression), no plugin (NonZero),
# or needs a GPU at build time (RoiAlign).
BEYOND_RTX = {"NonMaxSuppression", "RoiAlign", "NonZero"}

_ERRORS_SHOWN = 8


def network_from_onnx(trt: Any, builder: Any, model: onnx.ModelProto, source: Path) -> Any:
    """The network that `source` holds. Raises SameboxError that names the nodes TensorRT does not take."""
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
        raise SameboxError(f"{source}: {_account(refused)}")
    if not parsed:
        raise SameboxError(f"{source}: {called(trt)} does not parse it: {logger.said()}")
    return network


def _unsupported(trt: Any, parser: Any, graph: onnx.GraphProto) -> Iterator[tuple[tuple[str, str], str]]:
    """((node name, operator), why) of the nodes that TensorRT is known not to take."""
    constants = _integers(graph)
    for node in all_nodes(graph):
        beyond_rtx = trt.__name__ == "tensorrt_rtx" and node.op_type in BEYOND_RTX
        if beyond_rtx or not parser.supports_operator(node.op_type):
            yield (node.name, node.op_type), f"not an operator of {called(trt)}"
        elif node.op_type == "TopK" and constants.get(node.input[1], 0) > LARGEST_K:
            yield (node.name, node.op_type), f"K={constants[node.input[1]]} is above {LARGEST_K}"


def _integers(graph: onnx.GraphProto) -> dict[str, int]:
    """The constants of the graph and its subgraphs that hold a single integer, by name."""
    nodes = list(all_nodes(graph))
    graphs = [graph, *(a.g for node in nodes for a in node.attribute if a.HasField("g"))]
    values: dict[str, Any] = {tensor.name: tensor for part in graphs for tensor in part.initializer}
    for node in nodes:
        if node.op_type == "Constant":
            values[node.output[0]] = onnx.helper.get_attribute_value(node.attribute[0])
    return {name: integer for name, value in values.items() if (integer := _integer(value)) is not None}


def _integer(value: Any) -> int | None:
    """What a tensor, a number or a list holds, if that is one integer."""
    if isinstance(value, onnx.TensorProto):
        single = value.data_type == onnx.TensorProto.INT64 and math.prod(value.dims) == 1
        return int(numpy_helper.to_array(value).item()) if single else None
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    return value if isinstance(value, int) else None


def _account(refused: dict[tuple[str, str], str]) -> str:
    """One line on the nodes that were refused, each with its mend."""
    told = [
        f"{name or 'a nameless node'} ({operator}): {why}, {_mend(operator)}"
        for (name, operator), why in refused.items()
    ]
    more = f"; and {len(told) - _ERRORS_SHOWN} more" if len(told) > _ERRORS_SHOWN else ""
    count = "1 node does" if len(told) == 1 else f"{len(told)} nodes do"
    return f"{count} not parse: {'; '.join(told[:_ERRORS_SHOWN])}{more}"


def _mend(operator: str) -> str:
    if operator in LOWERED:
        return "export with export.lowering=portable, which does without it"
    return "no lowering does without it, so the network has to"
