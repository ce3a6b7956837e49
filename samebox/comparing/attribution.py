"""Which modules make two forms of a detector differ: the outputs of their modules, compared on images.

Each output has two errors. The *accumulated* error: each form computes from the image on, so the error of a
module is also in all later modules. The module's *own* error: every module of the examined form gets the
reference's values as inputs, so the error arises in that module alone.
"""

import io
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from samebox.comparing.module_values import Form, OnnxForm, Values
from samebox.core.errors import SameboxError
from samebox.detector import padded_batch
from samebox.evaluation.agreement import agreement
from samebox.postprocess.detections import Detections, detections_from_outputs
from samebox.record.preprocess import Batch, read_image

ROWS = 15  # of the table for a terminal
OPERATORS = 6  # named in a line, those next to the output first


@dataclass(frozen=True)
class ErrorSize:
    """The largest and the RMS difference from the reference, in standard deviations of the reference.

    Infinite if shapes differ, or if only one of two values is finite. Equal infinite values do not differ.
    """

    largest: float = 0.0
    rms: float = 0.0

    @classmethod
    def between(cls, reference: NDArray[Any], values: NDArray[Any]) -> "ErrorSize":
        """The error of an array of any shape. If the reference is constant, differences are not scaled."""
        if reference.shape != values.shape:
            return cls(np.inf, np.inf)
        if not reference.size:
            return cls()
        finite = reference[np.isfinite(reference)]
        deviation = finite.std(dtype=np.float64) if finite.size else 0.0
        with np.errstate(invalid="ignore"):  # infinite values
            difference = np.abs(reference - values, dtype=np.float64) / (deviation or 1.0)
        difference[(reference == values) | (np.isnan(reference) & np.isnan(values))] = 0.0
        difference[np.isnan(difference)] = np.inf
        return cls(float(difference.max()), float(np.sqrt(np.square(difference).mean())))

    def worst(self, other: "ErrorSize") -> "ErrorSize":
        """The larger of each figure."""
        return ErrorSize(max(self.largest, other.largest), max(self.rms, other.rms))


@dataclass(frozen=True)
class Clipped:
    """A tensor that int8 clips at the magnitude `limit`, while its values reach `largest`.

    `largest` is that of all images; `share`, the share of clipped values, is that of the worst image.
    """

    tensor: str
    limit: float
    largest: float
    share: float

    @classmethod
    def of(cls, tensor: str, values: NDArray[Any], limit: float) -> "Clipped":
        """The clipping in one image."""
        magnitudes = np.abs(values)
        return cls(tensor, limit, float(magnitudes.max(initial=0.0)), float((magnitudes > limit).mean()))

    def worst(self, other: "Clipped | None") -> "Clipped":
        """The larger of each figure."""
        if other is None:
            return self
        return replace(self, largest=max(self.largest, other.largest), share=max(self.share, other.share))

    def __str__(self) -> str:
        return f"{self.share:.2%} of {self.tensor}, up to {self.largest:.3g}, is beyond {self.limit:.3g}"


@dataclass(frozen=True)
class Boundary:
    """An output of a module: the `output`-th real-valued one, counted from 1 over all calls of the module.

    `tensor`: its name in the file. `operators`: the number of each operator between the preceding outputs and
    this one, without those that compute shapes. `accumulated` and `own`: the errors in the worst image, see
    the docstring of this file. `clipped`: of the tensors quantised in between, the one with the largest share
    beyond the range of int8. `reshaped`: how the shape differs from the reference's, None if it does not.
    """

    module: str
    output: int
    tensor: str
    operators: dict[str, int]
    clipped: Clipped | None
    accumulated: ErrorSize
    own: ErrorSize
    reshaped: str | None

    @property
    def name(self) -> str:
        """The module, with the number of the output unless it is the first."""
        return self.module if self.output == 1 else f"{self.module} (output {self.output})"

    def __str__(self) -> str:
        """The module, its operators and its own error in one line."""
        counted = [f"{count} {name}" if count > 1 else name for name, count in self.operators.items()]
        more = ", …" if len(counted) > OPERATORS else ""
        operators = ", ".join(counted[:OPERATORS]) + more
        figures = self.reshaped or f"largest {self.own.largest:.2g}, RMS {self.own.rms:.2g}"
        clipped = f"; {self.clipped}" if self.clipped and self.clipped.share else ""
        return f"{self.name} ({self.tensor}: {operators}): {figures}{clipped}"


@dataclass(frozen=True)
class Attribution:
    """The comparison of two forms: `boundaries` are the outputs of their modules in the order of execution.

    `tolerance` is in standard deviations of the reference. `uncompared` counts outputs that only one of the
    forms has. `answers` state, by image, how far the detections agree.
    """

    tolerance: float
    boundaries: tuple[Boundary, ...]
    uncompared: int
    answers: dict[str, str]

    @property
    def differing(self) -> list[Boundary]:
        """The outputs whose own error is beyond the tolerance, in the order of execution."""
        return [boundary for boundary in self.boundaries if boundary.own.largest > self.tolerance]

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON values; an infinite error is null."""
        return asdict(self, dict_factory=lambda pairs: {k: None if v == np.inf else v for k, v in pairs})


@dataclass
class _Worst:
    """The largest errors of an output over the images so far."""

    accumulated: ErrorSize = ErrorSize()
    own: ErrorSize = ErrorSize()
    reshaped: str | None = None


def attribution(reference: Form, form: OnnxForm, images: Sequence[Path], tolerance: float) -> Attribution:
    """Compare the module outputs of `form` with those of `reference`, one image at a time.

    Images are preprocessed by the record of `form`. `tolerance` is in standard deviations of each output of
    the reference. Raises SameboxError if the two forms have no module output in common.
    """
    worst: dict[str, _Worst] = defaultdict(_Worst)
    clipped: dict[str, Clipped] = {}
    answers = {}
    for path in images:
        batch = padded_batch(form.spec.preprocess([read_image(path)]), form.batch)
        expected, values = reference(batch.inputs()), form(batch.inputs())
        _compare(form, batch, expected, values, worst, clipped)
        if form.spec.postprocess:
            ours, theirs = _detections(form, expected, batch), _detections(form, values, batch)
            answers[str(path)] = str(agreement(ours, theirs))
    if not worst:
        raise SameboxError(
            f"{form.path}: none of its modules is in the reference; name two forms of one network"
        )
    counted: Counter[str] = Counter()
    boundaries = []
    for name, module in form.modules:
        counted[module] += 1
        if name in worst:
            place = module, counted[module], name
            boundaries.append(Boundary(*place, *_between(form, name, worst, clipped), **vars(worst[name])))
    return Attribution(tolerance, tuple(boundaries), len(form.modules) - len(boundaries), answers)


def _between(
    form: OnnxForm, name: str, bounds: Collection[str], clipped: Mapping[str, Clipped]
) -> tuple[dict[str, int], Clipped | None]:
    """The operators between an output and the outputs `bounds`, and the tensor there that int8 clips most."""
    nodes = form.segment(name, bounds)
    candidates = [clipped[node.input[0]] for node in nodes if node.input and node.input[0] in clipped]
    operators = dict(Counter(node.op_type for node in nodes))
    return operators, max(candidates, key=lambda tensor: tensor.share, default=None)


def _compare(
    form: OnnxForm,
    batch: Batch,
    expected: Values,
    values: Values,
    worst: dict[str, _Worst],
    clipped: dict[str, Clipped],
) -> None:
    """Update `worst` and `clipped` with one image.

    For its own error, each module gets the reference's values of all outputs with the same shape.
    """
    common = [name for name, _ in form.modules if name in expected and name in values]
    same_shape = [name for name in common if expected[name].shape == values[name].shape]
    alone = form(batch.inputs(), {name: expected[name] for name in same_shape})
    for name in common:
        output = worst[name]
        output.accumulated = output.accumulated.worst(ErrorSize.between(expected[name], values[name]))
        output.own = output.own.worst(ErrorSize.between(expected[name], alone[name]))
        if name not in same_shape:
            output.reshaped = f"{list(values[name].shape)}, not {list(expected[name].shape)}"
    for name, limit in form.limits.items():
        clipped[name] = Clipped.of(name, alone[name], limit).worst(clipped.get(name))


def _detections(form: OnnxForm, values: Values, batch: Batch) -> Detections:
    """The detections in the first image of the batch, from the values of `form` or of the reference."""
    outputs = {name: values[name] for name in form.outputs}
    return detections_from_outputs(outputs, batch, form.spec.class_names, form.spec.decoding)[0]


def attribution_text(result: Attribution, width: int = 120) -> str:
    """The result for a terminal: the first module that differs, the worst ones, how far detections agree."""
    differing = sorted(result.differing, key=lambda boundary: -boundary.own.rms)
    above = f"an own error above {result.tolerance:g} standard deviations"
    lines = [f"module outputs with {above}: {len(differing)} of {len(result.boundaries)}"]
    if differing:
        lines += [
            f"first: {result.differing[0]}",
            f"worst: {differing[0]}",
            *_table(result, differing[:ROWS], width),
        ]
    lines += [f"{image}: {answer}" for image, answer in result.answers.items()]
    return "\n".join(lines) + "\n"


def _table(result: Attribution, rows: Sequence[Boundary], width: int) -> list[str]:
    """The lines of a table; each row starts with its number in the order of execution."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="")
    for heading in ("", "module", "own error: RMS", "largest", "accumulated: RMS", "largest", "beyond int8"):
        table.add_column(heading, justify="left" if heading == "module" else "right")
    for row in rows:
        figures = (row.own.rms, row.own.largest, row.accumulated.rms, row.accumulated.largest)
        place = result.boundaries.index(row) + 1
        beyond = f"{row.clipped.share:.2%}" if row.clipped else "–"
        table.add_row(str(place), Text(row.name), *(f"{figure:.2g}" for figure in figures), beyond)
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
