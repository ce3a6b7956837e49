"""Where two forms of a detector part: the outputs of their modules compared on images.

An error is told twice. As it *arrives*: each form computes from the image on, so that what one module loses
is in every module behind it. And each module's *own*: in the form that is looked into every module gets the
reference's values as its inputs, so that what differs came about in that module alone.
"""

import io
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from samebox.agreement import agreement
from samebox.detections import Detections, detections_from_outputs
from samebox.detector import filled
from samebox.errors import SameboxError
from samebox.graphs import all_nodes, input_shapes, metadata, onnx_model, reads
from samebox.modules import ModuleOutput, recorded
from samebox.nets.contract import Deployable
from samebox.precision.achieved import CALLED, INT8, element_types
from samebox.precision.half import HALVES, stands_for
from samebox.precision.rounding import rounded
from samebox.preprocess import Batch, read_image
from samebox.runners.onnxruntime import OnnxRuntimeRunner
from samebox.runners.torch import TorchRunner
from samebox.spec import Spec

Values = dict[str, NDArray[Any]]
Feed = Mapping[str, NDArray[Any]]
# Rows of the table for a terminal, and operators that a line names, those next to the output first
SHOWN, OPERATORS_NAMED = 15, 6
# What a form gives for a feed: its outputs, and the modules' by the names of their tensors
Form = Callable[[Feed], Values]


@dataclass(frozen=True)
class Error:
    """How far values are from the reference's, in standard deviations of the reference: at the most, and RMS.

    Infinite where shapes differ or a value is no number that the reference has as one.
    """

    largest: float
    rms: float

    @classmethod
    def between(cls, reference: NDArray[Any], found: NDArray[Any]) -> "Error":
        """Arrays of any one shape; values of a reference that does not vary are measured as they are."""
        if reference.shape != found.shape:
            return cls(np.inf, np.inf)
        with np.errstate(invalid="ignore"):  # of infinite values, which may be equal
            gap = np.where(reference == found, 0.0, np.abs(reference - found, dtype=np.float64))
        gap = np.nan_to_num(gap / (reference.std(dtype=np.float64) or 1.0), nan=np.inf)
        return cls(float(gap.max(initial=0.0)), float(np.sqrt(np.square(gap).mean())) if gap.size else 0.0)

    def worst(self, other: "Error") -> "Error":
        """The larger of each figure."""
        return Error(max(self.largest, other.largest), max(self.rms, other.rms))


NONE = Error(0.0, 0.0)


@dataclass(frozen=True)
class Boundary:
    """The output `tensor` of `module` at its `call`-th call, counted from 1.

    `operators` counts those of the file between this output and the outputs before it, without what computes
    shapes. `arrived` and `own` are the errors of the worst image, see the module's docstring.
    """

    module: str
    call: int
    tensor: str
    operators: dict[str, int]
    arrived: Error
    own: Error

    @property
    def name(self) -> str:
        """The module, with the call where it is not the first."""
        return self.module if self.call == 1 else f"{self.module} (call {self.call})"

    def __str__(self) -> str:
        """Where, in what, and how much, in one line."""
        named = [f"{count} {name}" if count > 1 else name for name, count in self.operators.items()]
        more = ", …" if len(named) > OPERATORS_NAMED else ""
        operators = ", ".join(named[:OPERATORS_NAMED]) + more
        figures = f"{self.own.largest:.2g} at the most, RMS {self.own.rms:.2g}"
        return f"{self.name} ({self.tensor}: {operators}): {figures}"


@dataclass(frozen=True)
class Attribution:
    """Two forms compared: the outputs of their modules in the order of execution, and their answers by image.

    `uncompared` counts outputs that only one of the forms has.
    """

    tolerance: float
    boundaries: tuple[Boundary, ...]
    uncompared: int
    answers: dict[str, str]

    @property
    def differing(self) -> list[Boundary]:
        """Those whose own error is beyond the tolerance, in the order of execution."""
        return [boundary for boundary in self.boundaries if boundary.own.largest > self.tolerance]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file, where an infinite error is null."""
        return asdict(self, dict_factory=lambda pairs: {k: None if v == np.inf else v for k, v in pairs})


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
        with self._watched() as seen, TorchRunner(self._network, self._spec) as run:
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

    `spec` and `modules` are its records. Raises SameboxError for a file without them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        model = onnx_model(path)
        properties = metadata(model)
        self.spec = Spec.from_metadata(properties, str(path))
        self.modules = recorded(properties, str(path))
        self.outputs = [value.name for value in model.graph.output]
        self.batch = max(input_shapes(model, path)["images"][0], 1)
        self._types = element_types(model)
        self._producers = {name: node for node in model.graph.node for name in node.output}
        held = {one.tensor: stands_for(one.tensor, self._producers) for one in self.modules}
        self._tensors = {name: tensor for name, tensor in held.items() if tensor is not None}
        halves = {kind for kind, _ in HALVES.values()}
        self._model = rounded(model, str(path)) if halves & set(self._types.values()) else model

    def __call__(self, feed: Feed, given: Values = {}) -> Values:  # noqa: B006 - never changed
        """The values of modules and outputs; what reads outputs of modules in `given` reads those values."""
        inputs = {f"{self._tensors[name]}_given": value for name, value in given.items()}
        watched = _watched(self._model, self._tensors.values(), [self._tensors[name] for name in given])
        with _InMemory(self.path, watched) as run:
            outputs = run({**feed, **inputs})
        return outputs | {name: outputs[tensor] for name, tensor in self._tensors.items()}

    def operators(self, name: str) -> dict[str, int]:
        """The operators between the output `name` of a module and the outputs before it, counted.

        Those that give whole or truth values, as of shapes, are left out.
        """
        bounds = set(self._tensors.values())
        inside: dict[str, onnx.NodeProto] = {}
        open_ends = [self._tensors[name]]
        while open_ends:
            node = self._producers.get(open_ends.pop())
            if node is not None and node.output[0] not in inside:
                inside[node.output[0]] = node
                open_ends += reads(node) - bounds
        real = (*CALLED, *INT8)
        return dict(
            Counter(node.op_type for node in inside.values() if self._types.get(node.output[0]) in real)
        )

    def answer(self, values: Values, batch: Batch) -> Detections:
        """What was found in the first image of the batch, by this form or the one it is compared with."""
        outputs = {name: values[name] for name in self.outputs}
        return detections_from_outputs(outputs, batch, self.spec.class_names, self.spec.decoding)[0]


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


def attribution(reference: Form, form: OnnxForm, images: Sequence[Path], tolerance: float) -> Attribution:
    """Where `form` parts from `reference` on `images`, run one by one as the record of `form` prepares them.

    `tolerance` is in standard deviations of each output of the reference. Raises SameboxError where the two
    have no output of a module in common.
    """
    arrived: dict[str, Error] = {}
    own: dict[str, Error] = {}
    answers = {}
    for path in images:
        batch = filled(form.spec.preprocess([read_image(path)]), form.batch)
        expected, found = reference(batch.inputs()), form(batch.inputs())
        common = [name for name, _ in form.modules if name in expected and name in found]
        same = [name for name in common if expected[name].shape == found[name].shape]
        alone = form(batch.inputs(), {name: expected[name] for name in same})
        for name in common:
            arrived[name] = Error.between(expected[name], found[name]).worst(arrived.get(name, NONE))
            own[name] = Error.between(expected[name], alone[name]).worst(own.get(name, NONE))
        if form.spec.postprocess:
            answers[str(path)] = str(agreement(form.answer(expected, batch), form.answer(found, batch)))
    if not own:
        raise SameboxError(f"{form.path}: none of its modules is in the form that it is compared with")
    calls: Counter[str] = Counter()
    boundaries = []
    for name, module in form.modules:
        calls[module] += 1
        if name in own:
            boundaries.append(
                Boundary(module, calls[module], name, form.operators(name), arrived[name], own[name])
            )
    return Attribution(tolerance, tuple(boundaries), len(form.modules) - len(boundaries), answers)


def text(found: Attribution, width: int = 120) -> str:
    """The findings for a terminal: the first module that differs, the worst ones, and both answers."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    differing = sorted(found.differing, key=lambda boundary: -boundary.own.rms)
    beyond = f"by more than {found.tolerance:g} standard deviations by its own doing"
    compared = f"{len(found.boundaries)} outputs of modules"
    if differing:
        console.print(f"{len(differing)} of {compared} differ {beyond}")
        console.print(f"first: {found.differing[0]}")
        console.print(f"worst: {differing[0]}\n")
        console.print(_table(found, differing[:SHOWN]))
    else:
        console.print(f"none of {compared} differs {beyond}")
    for image, answer in found.answers.items():
        console.print(Text(f"{image}: {answer}"))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _table(found: Attribution, rows: Sequence[Boundary]) -> Table:
    """The rows with their place in the order of execution; errors in standard deviations."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="")
    for heading in ("", "module", "own error: RMS", "most", "as it arrives: RMS", "most"):
        table.add_column(heading, justify="left" if heading == "module" else "right")
    for row in rows:
        figures = (row.own.rms, row.own.largest, row.arrived.rms, row.arrived.largest)
        place = found.boundaries.index(row) + 1
        table.add_row(str(place), Text(row.name), *(f"{figure:.2g}" for figure in figures))
    return table
