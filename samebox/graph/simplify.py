"""Simplification of an ONNX graph by onnxsim.

onnxsim is known to crash, to hang and to fill the memory, so it runs in a process of its own. Its graph is
used only if it has the interface of the exported graph and gives the same outputs in ONNX Runtime, at shapes
that the export did not trace. Otherwise the exported graph is used unchanged.
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
from samebox.graph.output_comparison import Arrays, OutputDifferenceError, Tolerance, compare_outputs
from samebox.graph.reading import all_nodes, input_shapes, metadata, onnx_model

log = logging.getLogger(__name__)

Shape = tuple[int, int, int]

# A graph with post-processing has both of these outputs; a graph that ends with the heads has neither.
DETECTION_OUTPUTS = frozenset({"scores", "labels"})


@dataclass(frozen=True)
class SimplifyReport:
    """The result of a simplification.

    If `simplified` is false, `reason` states in one line why the exported graph is used instead; otherwise it
    is None. `before` and `after` count nodes by operator, loop bodies included. `detections` is the number
    of compared detections over all shapes. `seconds` covers the simplifier and the check.
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
    """The simplified graph must not be used. The text gives the reason in one line."""


def simplify_onnx(
    source: Path,
    target: Path,
    shapes: Sequence[Shape],
    seconds: float = 600,
    memory_mb: int = 8000,
) -> SimplifyReport:
    """Write the simplified graph of `source` to `target`, or a copy of `source` if that fails.

    The simplifier may use `seconds` and `memory_mb` (of data, on systems that can limit it). Its graph must
    keep the inputs, the outputs, their dynamic dimensions, the opset, the metadata and the standard operator
    domain. At each of `shapes` (batch, height, width) it must give the same outputs as `source`, within
    `Tolerance`; the images of a batch differ in size. A dimension that the graph fixes replaces the one in
    `shapes`. The written bytes depend on `source` only.

    Raises SameboxError if `source` is not an ONNX file with samebox's inputs and outputs or does not run at
    `shapes` itself.
    """
    started = time.perf_counter()
    model = onnx_model(source)
    feeds = [_feed(*shape) for shape in _shapes_within(input_shapes(model, source), shapes)]
    references = _reference_outputs(source, feeds)
    detections = 0
    reason = None
    with atomic_write(target) as temporary:
        try:
            _run_simplifier(source, temporary, seconds, memory_mb)
            _check_interface(model, temporary)
            detections = _check_outputs(temporary, feeds, references)
        except RefusedError as refusal:
            reason = str(refusal)
            log.warning("%s is used without simplification: %s", source.name, reason)
            shutil.copyfile(source, temporary)
        after = _node_counts(onnx_model(temporary))
    seconds_taken = round(time.perf_counter() - started, 3)
    return SimplifyReport(reason is None, reason, _node_counts(model), after, detections, seconds_taken)


def _node_counts(model: onnx.ModelProto) -> dict[str, int]:
    return dict(sorted(Counter(node.op_type for node in all_nodes(model.graph)).items()))


# --- The simplifier, in its own process ---


def _run_simplifier(source: Path, target: Path, seconds: float, memory_mb: int) -> None:
    """Run the simplifier, which is killed after `seconds`. Raises RefusedError if it writes no file."""
    try:
        process = subprocess.run(
            _command(source.resolve(), target.resolve(), memory_mb),
            cwd=Path(__file__).parents[2],  # so that the process imports samebox even if it is not installed
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise RefusedError(f"the simplifier took more than {seconds:g} s") from None
    if process.returncode != 0:
        raise RefusedError(_failure_reason(process.returncode, process.stderr, memory_mb))
    if not target.exists():
        raise RefusedError("the simplifier wrote no file")


def _command(source: Path, target: Path, memory_mb: int) -> list[str]:
    return [sys.executable, "-m", "samebox.graph.simplify", str(source), str(target), str(memory_mb)]


def _failure_reason(exit_status: int, errors: str, memory_mb: int) -> str:
    if any(sign in errors for sign in ("bad_alloc", "MemoryError", "Cannot allocate memory")):
        return f"the simplifier needs more than {memory_mb} MB"
    if exit_status < 0:
        return f"the simplifier was killed by {signal.Signals(-exit_status).name}"
    lines = errors.strip().splitlines() or [f"exit status {exit_status}"]
    return f"the simplifier failed: {lines[-1]}"


def _simplify(source: Path, target: Path, memory_mb: int) -> None:
    """Simplify in this process, and restore the metadata, because onnxsim adds its own."""
    _limit_memory(memory_mb)
    import onnxsim  # takes seconds and hundreds of megabytes, which only this process needs to spend

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
    with suppress(OSError, ValueError):  # some other systems refuse it
        resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, megabytes << 20))


# --- The interface of the graph ---


def _check_interface(model: onnx.ModelProto, path: Path) -> None:
    """Raises RefusedError if the graph in `path` is invalid or its interface differs from that of `model`."""
    try:
        simplified = onnx_model(path)
        onnx.checker.check_model(simplified)
    except (SameboxError, onnx.checker.ValidationError) as error:
        raise RefusedError(f"the simplified graph is invalid: {_first_line(error)}") from None
    interface = _interface(simplified)
    for part, expected in _interface(model).items():
        if interface[part] != expected:
            raise RefusedError(f"{part} changed from {expected} to {interface[part]}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _interface(model: onnx.ModelProto) -> dict[str, Any]:
    """What a user of the file relies on, by the words of an error."""
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


# --- The outputs of the graph ---


def _shapes_within(inputs: Mapping[str, Sequence[int]], shapes: Sequence[Shape]) -> list[Shape]:
    """`shapes` with the dimensions that the graph fixes, without repetitions."""
    if not shapes:
        raise SameboxError("no shape to check the simplified graph at; give one (batch, height, width)")
    batch, _, height, width = inputs["images"]
    within = [
        (batch if batch > 0 else b, height if height > 0 else h, width if width > 0 else w)
        for b, h, w in shapes
    ]
    return list(dict.fromkeys(within))


def _feed(batch: int, height: int, width: int) -> Arrays:
    """Inputs with images of different sizes; the first fills the canvas. Equal shapes give equal images."""
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


def _reference_outputs(source: Path, feeds: Sequence[Arrays]) -> list[Arrays]:
    """The outputs of the exported graph. Raises SameboxError if it does not run or lacks an output."""
    try:
        references = _outputs(source, feeds)
    except RefusedError as failure:
        raise SameboxError(f"{source}: {failure}; export it again") from None
    missing = DETECTION_OUTPUTS.difference(references[0])
    if missing and missing != DETECTION_OUTPUTS:
        raise SameboxError(f"{source}: it has no output {', '.join(sorted(missing))}; export it with samebox")
    return references


def _check_outputs(simplified: Path, feeds: Sequence[Arrays], references: Sequence[Arrays]) -> int:
    """The number of compared detections. Raises RefusedError if an output differs, or if there was none."""
    outputs = _outputs(simplified, feeds)
    detections = 0
    for feed, ours, theirs in zip(feeds, references, outputs, strict=True):
        try:
            detections += compare_outputs(ours, theirs, Tolerance())
        except OutputDifferenceError as difference:
            raise RefusedError(f"at {_shape_text(feed)} {difference}") from None
    if not detections and references[0].keys() >= DETECTION_OUTPUTS:
        raise RefusedError("no detection at any shape, so the two graphs could not be compared")
    return detections


def _outputs(path: Path, feeds: Sequence[Arrays]) -> list[Arrays]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # failures are raised; ONNX Runtime need not log them as well
    options.intra_op_num_threads = threads() or 0
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return [dict(zip(names, session.run(None, feed), strict=True)) for feed in feeds]
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        raise RefusedError(f"ONNX Runtime does not run it: {_first_line(error)}") from None


def _shape_text(feed: Arrays) -> str:
    return "x".join(map(str, feed["images"].shape))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Simplify one ONNX file. simplify_onnx runs this in a process of its own."
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("memory_mb", type=int)
    _simplify(**vars(parser.parse_args()))
