"""Reading ONNX files: what the stages that come after the export ask of a graph."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from samebox.core.errors import SameboxError
from samebox.core.files import existing


def onnx_model(path: Path) -> onnx.ModelProto:
    """The ONNX model in `path`. Raises SameboxError where the file is absent or no ONNX model."""
    try:
        model = onnx.load(existing(path, "export the network first"))
    except DecodeError:
        raise SameboxError(f"{path}: not an ONNX file; export it anew") from None
    if not model.graph.node:
        raise SameboxError(f"{path}: an ONNX file without a node; export it anew")
    return model


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node of the graph and of the subgraphs of its loops and branches, outer nodes first."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):
                yield from all_nodes(subgraph)


def tensors_read(node: onnx.NodeProto) -> set[str]:
    """The tensors that a node takes, or that its subgraphs take, their own among them."""
    inside = (all_nodes(attribute.g) for attribute in node.attribute if attribute.HasField("g"))
    return {name for one in (node, *chain.from_iterable(inside)) for name in one.input if name}


def input_shapes(model: onnx.ModelProto, path: Path) -> dict[str, list[int]]:
    """The shapes of `images` [batch,3,height,width] and `sizes` [batch,2], a dynamic dimension being -1.

    Raises SameboxError, naming `path`, for a graph with other inputs.
    """
    shapes = {
        value.name: [d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim]
        for value in model.graph.input
    }
    if {name: len(shape) for name, shape in shapes.items()} != {"images": 4, "sizes": 2}:
        raise SameboxError(
            f"{path}: its inputs are {shapes}, not images [batch,3,height,width] and sizes [batch,2]; "
            "export it with samebox"
        )
    return shapes


def metadata(model: onnx.ModelProto) -> dict[str, str]:
    """The model's metadata properties."""
    return {entry.key: entry.value for entry in model.metadata_props}


def opset_of(model: onnx.ModelProto) -> int:
    """The opset of ONNX's own operators."""
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
