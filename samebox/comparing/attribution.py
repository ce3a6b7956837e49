"""Where two forms of a detector part: the outputs of their modules compared on images.

An error is told twice. As it *arrives*: each form computes from the image on, so that what one module loses
is in every module behind it. And each module's *own*: in the form that is looked into every module gets the
reference's values as its inputs, so that what differs came about in that module alone.
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

# Rows of the table for a terminal, and operators that a line names, those next to the output first
SHOWN, OPERATORS_NAMED = 15, 6


@dataclass(frozen=True)
class Error:
    """How far values are from the reference's, in standard deviations of the reference: at the most, and RMS.

    Infinite where shapes differ, or only one of two values is finite; infinite values may be equal.
    """

    largest: float = 0.0
    rms: float = 0.0

    @classmethod
    def between(cls, reference: NDArray[Any], found: NDArray[Any]) -> "Error":
        """Arrays of any one shape; values of a reference that does not vary are measured as they are."""
        if reference.shape != found.shape:
            return cls(np.inf, np.inf)
        if not reference.size:
            return cls()
        finite = reference[np.isfinite(reference)]
        spread = finite.std(dtype=np.float64) if finite.size else 0.0
        with np.errstate(invalid="ignore"):  # of infinite values
            gap = np.abs(reference - found, dtype=np.float64) / (spread or 1.0)
        gap[(reference == found) | (np.isnan(reference) & np.isnan(found))] = 0.0
        gap[np.isnan(gap)] = np.inf
        return cls(float(gap.max()), float(np.sqrt(np.square(gap).mean())))

    def worst(self, other: "Error") -> "Error":
        """The larger of each figure."""
        return Error(max(self.largest, other.largest), max(self.rms, other.rms))


@dataclass(frozen=True)
class Clipped:
    """A tensor of which int8 keeps what is up to `limit`, while its values reach `largest`.

    `share` of them is beyond: in the worst image, as `largest` is that of all.
    """

    tensor: str
    limit: float
    largest: float
    share: float

    @classmethod
    def of(cls, tensor: str, values: NDArray[Any], limit: float) -> "Clipped":
        """That of one image."""
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
    """The `output`-th real-valued output of `module`, counted from 1 over all its calls, called `tensor`.

    `operators` counts those of the file between this output and the outputs before it, without what computes
    shapes. `arrived` and `own` are the errors of the worst image, see the module's docstring. `clipped` is of
    the tensors that are quantised in between that of which most is beyond the range of int8, `reshaped` says
    how the shape differs where it does.
    """

    module: str
    output: int
    tensor: str
    operators: dict[str, int]
    clipped: Clipped | None
    arrived: Error
    own: Error
    reshaped: str | None

    @property
    def name(self) -> str:
        """The module, with the number of the output where it is not the first."""
        return self.module if self.output == 1 else f"{self.module} (output {self.output})"

    def __str__(self) -> str:
        """Where, in what, and how much, in one line."""
        named = [f"{count} {name}" if count > 1 else name for name, count in self.operators.items()]
        more = ", …" if len(named) > OPERATORS_NAMED else ""
        operators = ", ".join(named[:OPERATORS_NAMED]) + more
        figures = self.reshaped or f"{self.own.largest:.2g} at the most, RMS {self.own.rms:.2g}"
        clipped = f"; {self.clipped}" if self.clipped and self.clipped.share else ""
        return f"{self.name} ({self.tensor}: {operators}): {figures}{clipped}"


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


@dataclass
class _Seen:
    """What an output of a module came to on the images so far."""

    arrived: Error = Error()
    own: Error = Error()
    reshaped: str | None = None


def attribution(reference: Form, form: OnnxForm, images: Sequence[Path], tolerance: float) -> Attribution:
    """Where `form` parts from `reference` on `images`, run one by one as the record of `form` prepares them.

    `tolerance` is in standard deviations of each output of the reference. Raises SameboxError where the two
    have no output of a module in common.
    """
    seen: dict[str, _Seen] = defaultdict(_Seen)
    clipped: dict[str, Clipped] = {}
    answers = {}
    for path in images:
        batch = padded_batch(form.spec.preprocess([read_image(path)]), form.batch)
        expected, found = reference(batch.inputs()), form(batch.inputs())
        _compare(form, batch, expected, found, seen, clipped)
        if form.spec.postprocess:
            answers[str(path)] = str(agreement(_answer(form, expected, batch), _answer(form, found, batch)))
    if not seen:
        raise SameboxError(f"{form.path}: none of its modules is in the form that it is compared with")
    counted: Counter[str] = Counter()
    boundaries = []
    for name, module in form.modules:
        counted[module] += 1
        if name in seen:
            place = module, counted[module], name
            boundaries.append(Boundary(*place, *_between(form, name, seen, clipped), **vars(seen[name])))
    return Attribution(tolerance, tuple(boundaries), len(form.modules) - len(boundaries), answers)


def _between(
    form: OnnxForm, name: str, bounds: Collection[str], clipped: Mapping[str, Clipped]
) -> tuple[dict[str, int], Clipped | None]:
    """Of the nodes between an output and the `bounds`: operators, and what int8 cuts most."""
    nodes = form.segment(name, bounds)
    cut = [clipped[node.input[0]] for node in nodes if node.input and node.input[0] in clipped]
    operators = dict(Counter(node.op_type for node in nodes))
    return operators, max(cut, key=lambda one: one.share, default=None)


def _compare(
    form: OnnxForm,
    batch: Batch,
    expected: Values,
    found: Values,
    seen: dict[str, _Seen],
    clipped: dict[str, Clipped],
) -> None:
    """Take what one image tells into `seen` and `clipped`. A value of another shape cannot be handed on."""
    common = [name for name, _ in form.modules if name in expected and name in found]
    alike = [name for name in common if expected[name].shape == found[name].shape]
    alone = form(batch.inputs(), {name: expected[name] for name in alike})
    for name in common:
        one = seen[name]
        one.arrived = one.arrived.worst(Error.between(expected[name], found[name]))
        one.own = one.own.worst(Error.between(expected[name], alone[name]))
        if name not in alike:
            one.reshaped = f"{list(found[name].shape)}, not {list(expected[name].shape)}"
    for name, limit in form.limits.items():
        clipped[name] = Clipped.of(name, alone[name], limit).worst(clipped.get(name))


def _answer(form: OnnxForm, values: Values, batch: Batch) -> Detections:
    """What was found in the first image of the batch, by `form` or the one that it is compared with."""
    outputs = {name: values[name] for name in form.outputs}
    return detections_from_outputs(outputs, batch, form.spec.class_names, form.spec.decoding)[0]


def text(found: Attribution, width: int = 120) -> str:
    """The findings for a terminal: the first module that differs, the worst ones, and both answers."""
    differing = sorted(found.differing, key=lambda boundary: -boundary.own.rms)
    compared = f"{len(found.boundaries)} outputs of modules"
    beyond = f"by more than {found.tolerance:g} standard deviations by itself"
    lines = [f"none of {compared} differs {beyond}"]
    if differing:
        lines = [
            f"{len(differing)} of {compared} differ {beyond}",
            f"first: {found.differing[0]}",
            f"worst: {differing[0]}",
            *_table(found, differing[:SHOWN], width),
        ]
    lines += [f"{image}: {answer}" for image, answer in found.answers.items()]
    return "\n".join(lines) + "\n"


def _table(found: Attribution, rows: Sequence[Boundary], width: int) -> list[str]:
    """The lines of a table, whose rows have their place in the order of execution."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="")
    for heading in ("", "module", "own error: RMS", "most", "as it arrives: RMS", "most", "beyond int8"):
        table.add_column(heading, justify="left" if heading == "module" else "right")
    for row in rows:
        figures = (row.own.rms, row.own.largest, row.arrived.rms, row.arrived.largest)
        place = found.boundaries.index(row) + 1
        beyond = f"{row.clipped.share:.2%}" if row.clipped else "–"
        table.add_row(str(place), Text(row.name), *(f"{figure:.2g}" for figure in figures), beyond)
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
