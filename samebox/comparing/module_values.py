"""Forms of a detector that also return their modules' outputs: PyTorch, and ONNX files in ONNX Runtime."""

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
# Returns, for a feed, the outputs of the form and those of its modules by the names of their tensors
Form = Callable[[Feed], Values]


class TorchForm:
    """A network in eager PyTorch; `modules` name the outputs of its modules.

    A module is left out if it is called more or less often than its outputs are in the graph, or if it does
    not return a single tensor; the modules inside it are compared instead.
    """

    def __init__(self, network: Deployable, spec: Spec, modules: Sequence[ModuleOutput]) -> None:
        self._network, self._spec = network, spec
        self._tensors: dict[str, list[str]] = defaultdict(list)
        for tensor, module in modules:
            self._tensors[module].append(tensor)

    def __call__(self, feed: Feed) -> Values:
        """The values of modules and outputs."""
        with (
            self._recorded() as outputs_of,
            TorchRunner(self._network, self._spec) as run,
            compute_padding_rows(),
        ):
            outputs = run(feed)
        values = {
            tensor: value
            for module, tensors in self._tensors.items()
            if len(outputs_of[module]) == len(tensors)
            for tensor, value in zip(tensors, outputs_of[module], strict=True)
        }
        return values | outputs

    @contextmanager
    def _recorded(self) -> Iterator[dict[str, list[NDArray[Any]]]]:
        """The outputs of modules, call by call, during the block."""
        outputs: dict[str, list[NDArray[Any]]] = defaultdict(list)

        def record(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.is_floating_point():
                outputs[name].append(output.numpy(force=True).copy())  # the network may modify it later

        modules = [(name, module) for name, module in self._network.named_modules() if name in self._tensors]
        hooks = [module.register_forward_hook(partial(record, name)) for name, module in modules]
        try:
            yield outputs
        finally:
            for hook in hooks:
                hook.remove()


class OnnxForm:
    """An ONNX file written by samebox, in ONNX Runtime on the CPU; 16-bit files are rounded as by
    RoundedRunner.

    `spec` and `modules` are from its metadata; `outputs` are the names of the graph's outputs; `limits` are
    the largest magnitudes that int8 represents, by quantised tensor. Raises SameboxError if the metadata
    lacks a record.
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
        converted = {name: converted_tensor(name, self._producers) for name, _ in self.modules}
        self._tensors = {name: tensor for name, tensor in converted.items() if tensor is not None}
        sixteen_bit = {kind for kind, _ in SIXTEEN_BIT_TYPES.values()}
        self._model = rounded(model, str(path)) if sixteen_bit & set(self._types.values()) else model

    def __call__(self, feed: Feed, given: Values | None = None) -> Values:
        """The values of outputs, of module outputs and of quantised tensors.

        The readers of a module output that is in `given` get that value instead.
        """
        given = given or {}
        inputs = {f"{self._tensors[name]}_given": value for name, value in given.items()}
        tensors = dict.fromkeys((*self._tensors.values(), *self.limits))
        model = _with_outputs(self._model, tensors, [self._tensors[name] for name in given])
        with _InMemory(self.path, model) as run:
            outputs = run({**feed, **inputs})
        return outputs | {name: outputs[tensor] for name, tensor in self._tensors.items()}

    def segment(self, name: str, bounds: Collection[str]) -> list[onnx.NodeProto]:
        """The nodes between the module outputs `bounds` and the module output `name`, the last node first.

        Nodes that return integers or booleans, such as those for shapes, are left out.
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
    """A modified model of the file at `path`."""

    def __init__(self, path: Path, model: onnx.ModelProto) -> None:
        super().__init__(path)
        self._modified = model

    def _model(self) -> bytes:
        return self._modified.SerializeToString()


def _with_outputs(model: onnx.ModelProto, tensors: Collection[str], cut: Collection[str]) -> onnx.ModelProto:
    """A copy that also returns `tensors`; readers of a tensor in `cut` get the input `<name>_given`."""
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
    """The largest magnitude that int8 represents, by quantised tensor."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    quantised = (node for node in graph.node if node.op_type == "QuantizeLinear")
    return {
        node.input[0]: float(127 * numpy_helper.to_array(stored[node.input[1]]).max())
        for node in quantised
        if node.input[1] in stored
    }
