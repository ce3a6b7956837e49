"""Loading of ONNX files, and the properties of a graph that later steps need."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from samebox.core.errors import SameboxError
from samebox.core.files import existing
from samebox.core.text import one_line
from samebox.graph.external_data import check_external_data


def onnx_model(path: Path) -> onnx.ModelProto:
    """The ONNX model in `path`, with its external data.

    Raises SameboxError if the file is absent or not an ONNX model, or if external data is absent, damaged or
    outside the folder of the file.
    """
    check_external_data(existing(path, "export the network first"))
    try:
        model = onnx.load(path)
    except DecodeError:
        raise SameboxError(f"{path}: not an ONNX file; export it again") from None
    except (onnx.checker.ValidationError, ValueError, OSError, MemoryError) as error:
        raise SameboxError(f"{path}: cannot be read ({one_line(error)}); export it again") from None
    if not model.graph.node:
        raise SameboxError(f"{path}: the ONNX graph is empty; export it again")
    return model


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes of the graph and of the subgraphs in its loops and branches, outer nodes first."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):
                yield from all_nodes(subgraph)


def tensors_read(node: onnx.NodeProto) -> set[str]:
    """The tensors that a node and the nodes in its subgraphs read, including tensors of the subgraphs."""
    inner_nodes = (all_nodes(attribute.g) for attribute in node.attribute if attribute.HasField("g"))
    return {name for reader in (node, *chain.from_iterable(inner_nodes)) for name in reader.input if name}


def input_shapes(model: onnx.ModelProto, path: Path) -> dict[str, list[int]]:
    """The shapes of `images` [batch,3,height,width] and `sizes` [batch,2], with -1 for dynamic dimensions.

    Raises SameboxError, which starts with `path`, for a graph with other inputs.
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
    """The metadata properties of the model."""
    return {entry.key: entry.value for entry in model.metadata_props}


def opset_of(model: onnx.ModelProto) -> int:
    """The opset of ONNX's standard operators."""
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
