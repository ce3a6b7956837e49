"""Which tensors of an ONNX graph are the outputs of which modules of the network it was made of."""

import ast
import json
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import onnx
from onnx import TensorProto

from samebox.core.errors import SameboxError
from samebox.graph.reading import tensors_read

# Where the pairs stand as JSON in a file's metadata, which every later file keeps
MODULES_KEY = "samebox_modules"

# The exporter's note at each node: the modules around it, outermost first, and at last its own name
SCOPES = "pkg.torch.onnx.name_scopes"
OUTSIDE = "outside"  # who reads an output of the graph


class ModuleOutput(NamedTuple):
    """A tensor that a module gives; a module that is called again gives another."""

    tensor: str
    module: str


def module_outputs(model: onnx.ModelProto) -> list[ModuleOutput]:
    """The real-valued outputs of modules, in the order of execution, of a model as torch's exporter has it.

    A tensor is the output of the innermost module around its node, if others read it than that module and
    what is inside of it. What a module only passes on is that of the module inside.
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
    """The dotted name of the innermost module around a node, "" for the network itself."""
    scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "[]")
    return ["", "", *ast.literal_eval(scopes)][-2]


def _within(inner: str, outer: str) -> bool:
    return inner != OUTSIDE and (inner == outer or not outer or inner.startswith(f"{outer}."))


def module_outputs_to_json(outputs: list[ModuleOutput]) -> str:
    """One line of JSON, the same bytes for the same outputs."""
    return json.dumps(outputs, separators=(",", ":"))


def recorded_module_outputs(metadata: Mapping[str, str], source: str) -> list[ModuleOutput]:
    """The outputs in a file's metadata. Raises SameboxError where `source` has none that read."""
    if MODULES_KEY not in metadata:
        raise SameboxError(f"{source}: does not say which tensors are its modules' outputs; export it anew")
    try:
        return [
            ModuleOutput(str(tensor), str(module)) for tensor, module in json.loads(metadata[MODULES_KEY])
        ]
    except (ValueError, TypeError):
        raise SameboxError(f"{source}: its record of modules is damaged; export it anew") from None
