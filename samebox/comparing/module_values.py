"""Forms of a detector that show what their modules give: PyTorch, and ONNX files in ONNX Runtime."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from samebox.graph.module_outputs import ModuleOutput, recorded_module_outputs
from samebox.graph.reading import all_nodes, input_shapes, metadata, onnx_model, tensors_read
from samebox.networks.nets.contract import Deployable, compute_padding_rows
from samebox.precision.achieved import INT8, PRECISION_NAMES, element_types
from samebox.precision.rounding import rounded
from samebox.precision.sixteen_bit import SIXTEEN_BIT_TYPES, converted_tensor
from samebox.record.spec import Spec
from samebox.runners.onnxruntime import OnnxRuntimeRunner
from samebox.runners.torch import TorchRunner

Values = dict[str, NDArray[Any]]
Feed = Mapping[str, NDArray[Any]]
# What a form gives for a feed: its outputs, and those of its modules by the names of their tensors
Form = Callable[[Feed], Values]


class TorchForm:
    """A network in eager PyTorch, its modules looked at under the names that `modules` gives their outputs.

    Those are left out of which the module gives another number than the graph has, or no single tensor: of
    such, the modules inside tell.
    """

    def __init__(self, network: Deployable, spec: Spec, modules: Sequence[ModuleOutput]) -> None:
        self._network, self._spec = network, spec
        self._tensors: dict[str, list[str]] = defaultdict(list)
        for tensor, module in modules:
            self._tensors[module].append(tensor)

    def __call__(self, feed: Feed) -> Values:
        """The values of modules and outputs."""
        with self._watched() as seen, TorchRunner(self._network, self._spec) as run, compute_padding_rows():
            outputs = run(feed)
        values = {
            tensor: value
            for module, tensors in self._tensors.items()
            if len(seen[module]) == len(tensors)
            for tensor, value in zip(tensors, seen[module], strict=True)
        }
        return values | outputs

    @contextmanager
    def _watched(self) -> Iterator[dict[str, list[NDArray[Any]]]]:
        """What modules give, call by call, as long as the block runs."""
        seen: dict[str, list[NDArray[Any]]] = defaultdict(list)

        def note(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.is_floating_point():
                seen[name].append(output.numpy(force=True).copy())  # the network may go on to change it

        watched = [(name, one) for name, one in self._network.named_modules() if name in self._tensors]
        hooks = [module.register_forward_hook(partial(note, name)) for name, module in watched]
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()


class OnnxForm:
    """An ONNX file of samebox's in ONNX Runtime on the CPU, 16-bit ones rounded as RoundedRunner does.

    `spec` and `modules` are its records, `outputs` the names of the graph's own; `limits` are the largest
    magnitudes that tensors keep where they are quantised to int8. Raises SameboxError where one is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        model = onnx_model(path)
        properties = metadata(model)
        self.spec = Spec.from_metadata(properties, str(path))
        self.modules = recorded_module_outputs(properties, str(path))
        self.outputs = [value.name for value in model.graph.output]
        self.limits = _limits(model.graph)
        self.batch = max(input_shapes(model, path)["images"][0], 1)
        self._types = element_types(model)
        self._producers = {name: node for node in model.graph.node for name in node.output}
        held = {one.tensor: converted_tensor(one.tensor, self._producers) for one in self.modules}
        self._tensors = {name: tensor for name, tensor in held.items() if tensor is not None}
        halves = {kind for kind, _ in SIXTEEN_BIT_TYPES.values()}
        self._model = rounded(model, str(path)) if halves & set(self._types.values()) else model

    def __call__(self, feed: Feed, given: Values | None = None) -> Values:
        """The values of outputs, of modules and of what is quantised.

        What reads an output of a module that is in `given` reads the value there instead.
        """
        given = given or {}
        inputs = {f"{self._tensors[name]}_given": value for name, value in given.items()}
        asked = dict.fromkeys((*self._tensors.values(), *self.limits))
        watched = _watched(self._model, asked, [self._tensors[name] for name in given])
        with _InMemory(self.path, watched) as run:
            outputs = run({**feed, **inputs})
        return outputs | {name: outputs[tensor] for name, tensor in self._tensors.items()}

    def segment(self, name: str, bounds: Collection[str]) -> list[onnx.NodeProto]:
        """The nodes from the outputs `bounds` of modules to the output `name` of one, the last node first.

        Those that give whole or truth values, as of shapes, are left out.
        """
        ends = {self._tensors[bound] for bound in bounds}
        inside: dict[str, onnx.NodeProto] = {}
        open_ends = [self._tensors[name]]
        while open_ends:
            node = self._producers.get(open_ends.pop())
            if node is not None and node.output[0] not in inside:
                inside[node.output[0]] = node
                open_ends += sorted(tensors_read(node) - ends)
        real = (*PRECISION_NAMES, *INT8)
        return [node for tensor, node in inside.items() if self._types.get(tensor) in real]


class _InMemory(OnnxRuntimeRunner):
    """A changed model of the file at `path`."""

    def __init__(self, path: Path, model: onnx.ModelProto) -> None:
        super().__init__(path)
        self._changed = model

    def _model(self) -> bytes:
        return self._changed.SerializeToString()


def _watched(model: onnx.ModelProto, tensors: Collection[str], cut: Collection[str]) -> onnx.ModelProto:
    """A copy that gives `tensors` besides; what reads those of `cut` reads inputs `<name>_given` instead."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    given = {name: f"{name}_given" for name in cut}
    for node in all_nodes(graph):
        node.input[:] = [given.get(name, name) for name in node.input]
    for name in given.values():
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    outputs = {value.name for value in graph.output}
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in outputs)
    return copy


def _limits(graph: onnx.GraphProto) -> dict[str, float]:
    stored = {tensor.name: tensor for tensor in graph.initializer}
    quantised = (node for node in graph.node if node.op_type == "QuantizeLinear")
    return {
        node.input[0]: float(127 * numpy_helper.to_array(stored[node.input[1]]).max())
        for node in quantised
        if node.input[1] in stored
    }
