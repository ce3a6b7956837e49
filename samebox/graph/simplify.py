"""A simpler ONNX graph that provably answers as the exported one does, or the exported one itself.

The simplifier runs in a process of its own, because it is known to crash, to hang and to take all
memory. What it gives is believed only after ONNX Runtime has run both graphs at shapes that the export
did not see.
"""

import argparse
import logging
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from samebox.core.environment import threads
from samebox.core.errors import SameboxError
from samebox.core.files import atomic_write
from samebox.graph.reading import all_nodes, input_shapes, metadata, onnx_model

log = logging.getLogger(__name__)

Arrays = dict[str, NDArray[Any]]
Shape = tuple[int, int, int]

# The outputs of a graph that gives detections; one that gives the maps of its heads has none of them
DETECTIONS = frozenset({"scores", "labels"})


@dataclass(frozen=True)
class Tolerance:
    """How far two graphs may differ and still be the same.

    `score` and `box` (pixels of the canvas) between matched detections; `value`, absolute and relative,
    for any other real number; `share` of the elements of any other output may be beyond that, as where
    PointRend's choice of points turns on the last digit.
    """

    score: float = 1e-3
    box: float = 0.1
    value: float = 1e-3
    share: float = 1e-3


@dataclass(frozen=True)
class SimplifyReport:
    """What became of a simplification.

    `reason` says in one line why the exported graph goes on, and is None where `simplified`. `before`
    and `after` count nodes by operator, those of loop bodies included. `detections` is how many were
    compared, over all shapes. `seconds` cover the simplifier and the check.
    """

    simplified: bool
    reason: str | None
    before: dict[str, int]
    after: dict[str, int]
    detections: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)


class RefusedError(Exception):
    """The simplified graph is not used; its text says why in one line."""


def simplified_onnx(
    source: Path,
    target: Path,
    shapes: Sequence[Shape],
    seconds: float = 600,
    memory_mb: int = 8000,
    tolerance: Tolerance = Tolerance(),
) -> SimplifyReport:
    """Write to `target` the simplified graph of `source`, or `source` byte for byte where that fails.

    The simplifier is given `seconds` and `memory_mb` (of data, where the system can limit it). Its graph
    must keep inputs, outputs, their dynamic dimensions, the opset, the metadata and the standard
    operator domain, and must give the detections of `source` within `tolerance` at every one of
    `shapes` (batch, height, width), whose dimensions yield to those that the graph fixes; the images of
    a batch differ in size. The bytes written depend on `source` alone. Raises SameboxError where
    `source` is no ONNX file of the contract or does not itself run at `shapes`.
    """
    started = time.perf_counter()
    model = onnx_model(source)
    feeds = [_feed(*shape) for shape in _shapes_within(input_shapes(model, source), shapes)]
    references = _references(source, feeds)
    detections = 0
    reason = None
    with atomic_write(target) as aside:
        try:
            _simplify_apart(source, aside, seconds, memory_mb)
            _check_form(model, aside)
            detections = _check_answers(aside, feeds, references, tolerance)
        except RefusedError as refusal:
            reason = str(refusal)
            log.warning("%s goes on unsimplified: %s", source.name, reason)
            shutil.copyfile(source, aside)
        after = _node_counts(onnx_model(aside))
    seconds_taken = round(time.perf_counter() - started, 3)
    return SimplifyReport(reason is None, reason, _node_counts(model), after, detections, seconds_taken)


def _node_counts(model: onnx.ModelProto) -> dict[str, int]:
    return dict(sorted(Counter(node.op_type for node in all_nodes(model.graph)).items()))


# --- The simplifier, in its own process ---


def _simplify_apart(source: Path, target: Path, seconds: float, memory_mb: int) -> None:
    """Run the simplifier on `source`, killed after `seconds`. Refuses where it leaves no result."""
    try:
        child = subprocess.run(
            _command(source.resolve(), target.resolve(), memory_mb),
            cwd=Path(__file__).parents[2],  # there the child finds samebox, installed or not
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise RefusedError(f"the simplifier did not end within {seconds:g} s") from None
    if child.returncode != 0:
        raise RefusedError(_cause_of_death(child.returncode, child.stderr, memory_mb))
    if not target.exists():
        raise RefusedError("the simplifier wrote nothing")


def _command(source: Path, target: Path, memory_mb: int) -> list[str]:
    return [sys.executable, "-m", "samebox.graph.simplify", str(source), str(target), str(memory_mb)]


def _cause_of_death(code: int, errors: str, memory_mb: int) -> str:
    if any(sign in errors for sign in ("bad_alloc", "MemoryError", "Cannot allocate memory")):
        return f"the simplifier needs more than {memory_mb} MB"
    if code < 0:
        return f"the simplifier died of {signal.Signals(-code).name}"
    lines = errors.strip().splitlines() or [f"exit status {code}"]
    return f"the simplifier failed: {lines[-1]}"


def _simplify(source: Path, target: Path, memory_mb: int) -> None:
    """What the child does: simplify, and put back the metadata, to which onnxsim adds its own."""
    _limit_memory(memory_mb)
    import onnxsim  # takes seconds and hundreds of megabytes, which are the child's to spend

    model = onnx.load(source)
    simplified, _ = onnxsim.simplify(model, certify=False)
    del simplified.metadata_props[:]
    simplified.metadata_props.extend(model.metadata_props)
    target.write_bytes(simplified.SerializeToString(deterministic=True))


def _limit_memory(megabytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    with suppress(OSError, ValueError):  # nor do all the others keep to it
        resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, megabytes << 20))


# --- The form of the graph ---


def _check_form(model: onnx.ModelProto, path: Path) -> None:
    """Refuse a graph in `path` that is invalid or departs from `model` in what a user relies on."""
    try:
        simplified = onnx_model(path)
        onnx.checker.check_model(simplified)
    except (SameboxError, onnx.checker.ValidationError) as error:
        raise RefusedError(f"the simplified graph is invalid: {_first_line(error)}") from None
    found = _form(simplified)
    for what, promised in _form(model).items():
        if found[what] != promised:
            raise RefusedError(f"{what} changed from {promised} to {found[what]}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _form(model: onnx.ModelProto) -> dict[str, Any]:
    return {
        "the opset": {entry.domain: entry.version for entry in model.opset_import},
        "the operator domains": sorted({node.domain for node in all_nodes(model.graph)} | {""}),
        "the metadata": metadata(model),
        "the inputs": [_signature(value) for value in model.graph.input],
        "the outputs": [_signature(value) for value in model.graph.output],
    }


def _signature(value: onnx.ValueInfoProto) -> tuple[Any, ...]:
    tensor = value.type.tensor_type
    return value.name, tensor.elem_type, *(d.dim_param or d.dim_value for d in tensor.shape.dim)


# --- The answers of the graph ---


def _shapes_within(inputs: Mapping[str, Sequence[int]], shapes: Sequence[Shape]) -> list[Shape]:
    """`shapes` with the dimensions that the graph fixes put in, each of the results once."""
    if not shapes:
        raise SameboxError("no shape to check the simplified graph at; name one (batch, height, width)")
    batch, _, height, width = inputs["images"]
    within = [
        (batch if batch > 0 else b, height if height > 0 else h, width if width > 0 else w)
        for b, h, w in shapes
    ]
    return list(dict.fromkeys(within))


def _feed(batch: int, height: int, width: int) -> Arrays:
    """Images whose sizes differ, the first filling the canvas; the same for the same shape."""
    generator = np.random.default_rng([batch, height, width])
    images = np.zeros((batch, 3, height, width), np.float32)
    sizes = np.empty((batch, 2), np.int64)
    for index in range(batch):
        h, w = height - height * (index % 4) // 8, width - width * (index % 3) // 6
        images[index, :, :h, :w] = _natural_image(generator, h, w)
        sizes[index] = h, w
    return {"images": images, "sizes": sizes}


def _natural_image(generator: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """[3,H,W] RGB 0..255: octaves of noise, each half as strong as the coarser one, as in photographs."""
    image = np.zeros((height, width, 3), np.float32)
    for octave in range(7):
        cells = generator.random((2 << octave, 2 << octave, 3), np.float32)
        image += cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC) / 2**octave
    image -= image.min()
    return (image * (255 / image.max())).transpose(2, 0, 1)


def _references(source: Path, feeds: Sequence[Arrays]) -> list[Arrays]:
    """What the exported graph answers. Raises SameboxError where it does not run or lacks an output."""
    try:
        references = _answers(source, feeds)
    except RefusedError as failure:
        raise SameboxError(f"{source}: {failure}; export it anew") from None
    missing = DETECTIONS.difference(references[0])
    if missing and missing != DETECTIONS:
        raise SameboxError(f"{source}: it has no output {', '.join(sorted(missing))}; export it with samebox")
    return references


def _check_answers(
    simplified: Path, feeds: Sequence[Arrays], references: Sequence[Arrays], tolerance: Tolerance
) -> int:
    """How many detections were compared. Refuses where an answer differs, or where none was found."""
    found = _answers(simplified, feeds)
    detections = 0
    try:
        for feed, ours, theirs in zip(feeds, references, found, strict=True):  # noqa: B007 - told of below
            detections += compare_answers(ours, theirs, tolerance)
    except RefusedError as difference:
        raise RefusedError(f"at {_named(feed)} {difference}") from None
    if not detections and references[0].keys() >= DETECTIONS:
        raise RefusedError("no detection at any shape, so the two graphs could not be compared")
    return detections


def _answers(path: Path, feeds: Sequence[Arrays]) -> list[Arrays]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # failures are raised, and told once
    options.intra_op_num_threads = threads() or 0
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return [dict(zip(names, session.run(None, feed), strict=True)) for feed in feeds]
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        raise RefusedError(f"ONNX Runtime does not run it: {_first_line(error)}") from None


def _named(feed: Arrays) -> str:
    batch, _, height, width = feed["images"].shape
    return f"{batch}x3x{height}x{width}"


def compare_answers(reference: Arrays, found: Arrays, tolerance: Tolerance) -> int:
    """How many detections of `reference` were found again. Raises RefusedError where `found` differs.

    An output whose shape starts with that of `scores` [B,K] belongs to the detections and is compared
    between those that match; any other is compared as it is, as all are where there are no detections.
    """
    for name, value in reference.items():
        if value.shape != found[name].shape:
            raise RefusedError(f"{name} has shape {found[name].shape}, not {value.shape}")
    rows = reference["scores"].shape if "scores" in reference else (0,)
    owned = [name for name, value in reference.items() if value.shape[:2] == rows]
    for name in set(reference).difference(owned):
        _compare_values(name, reference[name], found[name], tolerance)
    detections = 0
    for image in range(rows[0]):
        ours, theirs = ({name: side[name][image] for name in owned} for side in (reference, found))
        pairs = _matched(ours, theirs, tolerance)
        for name in set(owned) - {"scores", "labels", "boxes"}:
            _compare_values(name, ours[name][pairs[:, 0]], theirs[name][pairs[:, 1]], tolerance)
        detections += len(pairs)
    return detections


def _matched(ours: Arrays, theirs: Arrays, tolerance: Tolerance) -> NDArray[np.int64]:
    """Rows [N,2] of the same detection in two answers for one image, whatever their order.

    Where all K rows are taken, the last place may go to either of two scores that are equal within
    the tolerance.
    """
    counts = [int((side["scores"] > 0).sum()) for side in (ours, theirs)]
    if counts[0] != counts[1]:
        raise RefusedError(f"{counts[0]} detections became {counts[1]}")
    free = theirs["scores"] > 0
    cut = ours["scores"].min() + tolerance.score if free.all() else 0.0
    pairs = []
    for row in np.flatnonzero(ours["scores"] > 0):
        score, label = ours["scores"][row], ours["labels"][row]
        gap = np.abs(theirs["scores"] - score)
        same = free & (gap <= tolerance.score) & (theirs["labels"] == label)
        if "boxes" in ours:
            same &= np.abs(theirs["boxes"] - ours["boxes"][row]).max(-1) <= tolerance.box
        if same.any():
            twin = int(np.where(same, gap, np.inf).argmin())
            free[twin] = False
            pairs.append((row, twin))
        elif score > cut:
            raise RefusedError(f"the detection of label {label} with score {score:.4f} is not found again")
    return np.array(pairs, np.int64).reshape(-1, 2)


def _compare_values(name: str, ours: NDArray[Any], theirs: NDArray[Any], tolerance: Tolerance) -> None:
    real = np.issubdtype(ours.dtype, np.floating)
    same = np.isclose(ours, theirs, rtol=tolerance.value, atol=tolerance.value) if real else ours == theirs
    if np.count_nonzero(~same) > tolerance.share * same.size:
        raise RefusedError(f"{name} differs")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Simplify one ONNX file; simplified_onnx runs this apart.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("memory_mb", type=int)
    _simplify(**vars(parser.parse_args()))
