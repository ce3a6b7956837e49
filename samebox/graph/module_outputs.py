"""The tensors of an ONNX graph that are outputs of the modules of the exported network."""

import ast
import json
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import onnx
from onnx import TensorProto

from samebox.core.errors import SameboxError
from samebox.graph.reading import tensors_read

# Metadata key of the (tensor, module) pairs as JSON. Simplified, converted and session files keep it.
MODULES_KEY = "samebox_modules"

# Where the exporter stores, for each node, the modules around it, outermost first, and the node's name last
SCOPES = "pkg.torch.onnx.name_scopes"
OUTSIDE = "outside"  # the reader of an output of the graph


class ModuleOutput(NamedTuple):
    """An output tensor of one call of a module; each further call has another tensor."""

    tensor: str
    module: str


def module_outputs(model: onnx.ModelProto) -> list[ModuleOutput]:
    """The fp32 outputs of modules, in the order of execution, of a model from torch's exporter.

    A tensor is an output of the innermost module around its node if a node outside that module reads it or
    if it is an output of the graph. A tensor that a module only passes on is an output of the inner module
    that computes it.
    """
    graph = model.graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    readers = defaultdict(set, {value.name: {OUTSIDE} for value in graph.output})
    for node in graph.node:
        for name in tensors_read(node):
            readers[name].add(_module(node))
    return [
        ModuleOutput(name, _module(node))
        for node in graph.node
        for name in node.output
        if types.get(name) == TensorProto.FLOAT
        and any(not _within(reader, _module(node)) for reader in readers[name])
    ]


def _module(node: onnx.NodeProto) -> str:
    """The dotted name of the innermost module around a node, or "" for the network itself."""
    scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "[]")
    return ["", "", *ast.literal_eval(scopes)][-2]


def _within(inner: str, outer: str) -> bool:
    """Whether the module `inner` is `outer` or a part of it."""
    return inner != OUTSIDE and (inner == outer or not outer or inner.startswith(f"{outer}."))


def module_outputs_to_json(outputs: list[ModuleOutput]) -> str:
    """One line of JSON; equal outputs give equal bytes."""
    return json.dumps(outputs, separators=(",", ":"))


def recorded_module_outputs(metadata: Mapping[str, str], source: str) -> list[ModuleOutput]:
    """The module outputs in a file's metadata.

    Raises SameboxError, which starts with the file name `source`, if the entry is absent or damaged.
    """
    if MODULES_KEY not in metadata:
        raise SameboxError(f"{source}: its metadata has no entry {MODULES_KEY}; export it again")
    try:
        return [
            ModuleOutput(str(tensor), str(module)) for tensor, module in json.loads(metadata[MODULES_KEY])
        ]
    except (ValueError, TypeError):
        raise SameboxError(
            f"{source}: its metadata entry {MODULES_KEY} is damaged; export it again"
        ) from None
