"""Two detectors on an NVIDIA GPU, runtime by runtime: time, memory, and agreement with the CPU.

python -m benchmarks.gpu [--work FOLDER] [--images FOLDER] [--checkpoint NETWORK=FILE]

It needs samebox, torch, ONNX Runtime and pycocotools, but not Hydra, DVC or MLflow. Without a GPU it prints
one line, measures the CPU's forms at a small canvas, and writes nothing.
"""

import argparse
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.networks import described, filling, network_of
from benchmarks.processes import in_own_process
from benchmarks.sheets import Sheet, write
from samebox.core.environment import gpu_memory_mb, peak_memory_mb, reset_peak_memory
from samebox.core.errors import NotHere, SameboxError
from samebox.core.files import read_json, write_json
from samebox.core.gpu import gpus
from samebox.engine.build import engine_from_onnx
from samebox.engine.profile import Profile
from samebox.engine.session import session_from_file, session_from_onnx
from samebox.evaluation.agreement import Agreement, agreement
from samebox.graph.export import export
from samebox.graph.simplify import simplify_onnx
from samebox.postprocess.detections import Detections, detections_from_outputs
from samebox.precision.convert import convert_precision
from samebox.precision.rule import PrecisionRule
from samebox.record.preprocess import Batch, read_image
from samebox.runners.onnxruntime import OnnxRuntimeRunner
from samebox.runners.tensorrt import TensorRTRunner

PICTURES = Path(__file__).parents[1] / "demo/shapes/val"
# Two detections agree if they differ by at most this many pixels and this much in score
BOX, SCORE = 1.0, 0.01

Arrays = dict[str, NDArray[Any]]
Run = Callable[[Arrays], Arrays]


@dataclass(frozen=True)
class Case:
    """One network at one batch and canvas (height, width); its files are in `folder`.

    `images` fill the batch, repeated if they are too few; each is stretched over the canvas.
    """

    network: str
    batch: int
    canvas: tuple[int, int]
    folder: Path
    images: tuple[Path, ...]
    checkpoint: Path | None = None
    rounds: int = 50
    warmup: int = 10

    def input_batch(self) -> Batch:
        """The input of every form."""
        chosen = islice(cycle(self.images), self.batch)
        parts = [filling(read_image(path), self.canvas) for path in chosen]
        sizes = np.concatenate([part.sizes for part in parts])
        return Batch(np.concatenate([part.images for part in parts]), sizes, sizes)

    def profile(self) -> Profile:
        """The single shape that engines are built for."""
        (height, width), batch = self.canvas, self.batch
        return Profile((batch,) * 3, (height,) * 3, (width,) * 3)

    def file(self, name: str) -> Path:
        """An artifact of the network."""
        return self.folder / f"{name}.onnx"

    def own(self, name: str) -> Path:
        """An artifact of this batch and canvas."""
        return self.folder / f"{name}_{self.batch}x{self.canvas[0]}x{self.canvas[1]}"


# --- The files that forms run ---


def make_simplified(case: Case) -> None:
    """Export the network and simplify the file, as the pipeline does."""
    values = described()
    network, spec = network_of(values["networks"][case.network], case.checkpoint)
    export(network, spec, case.file("exported"), **values["export"])
    simplify_onnx(case.file("exported"), case.file("simplified"), [tuple(s) for s in values["shapes"]])


def make_fp16(case: Case) -> None:
    """The simplified file in fp16, calibrated with the images."""
    rule = PrecisionRule(**described()["rule"])
    convert_precision(case.file("simplified"), case.file("fp16"), "fp16", rule, case.images)


MAKERS = {"simplified": make_simplified, "fp16": make_fp16}


# --- The forms ---


@contextmanager
def eager(case: Case, device: str, half: bool = False, compiled: bool = False) -> Iterator[Run]:
    """The network in PyTorch; with `half`, autocast decides what is computed in fp16."""
    if device == "cuda" and not torch.cuda.is_available():
        raise NotHere(f"torch {torch.__version__} does not see the GPU: install torch with CUDA")
    torch.backends.cudnn.allow_tf32 = False  # by default, fp32 convolutions use TF32
    network, _ = network_of(described()["networks"][case.network], case.checkpoint)
    network = network.to(device)
    call = torch.compile(network) if compiled else network

    def run(inputs: Arrays) -> Arrays:
        images, sizes = (torch.from_numpy(inputs[name]).to(device) for name in ("images", "sizes"))
        with torch.no_grad(), torch.autocast(device, torch.float16, enabled=half):
            outputs = call(images, sizes)
        # autocast leaves some outputs in fp16
        return {
            name: (o.float() if o.is_floating_point() else o).cpu().numpy() for name, o in outputs.items()
        }

    yield run


def onnxruntime(case: Case, device: str, file: str = "simplified") -> AbstractContextManager[Run]:
    """An ONNX file in ONNX Runtime; on a GPU with the session options that the pipeline uses."""
    if device == "cpu":
        return OnnxRuntimeRunner(case.file(file))
    target = case.own(f"{file}_{device}").with_suffix(".onnx")
    workspace = described()["workspace_mb"]
    session_from_onnx(case.file(file), target, device, case.profile(), workspace, tf32=False)
    session = session_from_file(target, case.folder / "engine_cache")
    return OnnxRuntimeRunner(target, session.device, session.options)


def engine(case: Case, flavour: str, file: str = "simplified") -> AbstractContextManager[Run]:
    """An engine built from an ONNX file for this machine's GPU."""
    target = case.own(f"{file}_{flavour}").with_suffix(".engine")
    # the full TensorRT builds for the GPU here and takes no targets
    targets = [gpus()[0].target] if flavour == "tensorrt_rtx" else []
    workspace = described()["workspace_mb"]
    engine_from_onnx(case.file(file), target, case.profile(), flavour, targets, workspace_mb=workspace)
    return TensorRTRunner(target)


@dataclass(frozen=True)
class Form:
    """A way to run a network, and the file that it needs, one of MAKERS, or None."""

    open: Callable[[Case], AbstractContextManager[Run]]
    file: str | None = None


CPU_FORMS = {
    "PyTorch fp32": Form(partial(eager, device="cpu")),
    "ONNX Runtime fp32": Form(partial(onnxruntime, device="cpu"), "simplified"),
}
GPU_FORMS = {
    "PyTorch fp32": Form(partial(eager, device="cuda")),
    "PyTorch fp16, autocast": Form(partial(eager, device="cuda", half=True)),
    "torch.compile fp32": Form(partial(eager, device="cuda", compiled=True)),
    "torch.compile fp16, autocast": Form(partial(eager, device="cuda", half=True, compiled=True)),
}
for _file, _type in (("simplified", "fp32"), ("fp16", "fp16")):
    GPU_FORMS |= {
        f"ONNX Runtime CUDA {_type}": Form(partial(onnxruntime, device="cuda", file=_file), _file),
        f"ONNX Runtime TensorRT {_type}": Form(partial(onnxruntime, device="tensorrt", file=_file), _file),
        f"TensorRT-RTX {_type}": Form(partial(engine, flavour="tensorrt_rtx", file=_file), _file),
        f"TensorRT {_type}": Form(partial(engine, flavour="tensorrt", file=_file), _file),
    }


# --- Measuring ---


@dataclass(frozen=True)
class Figures:
    """The figures of a form, or the `reason` why there are none.

    `median` and `p95` are milliseconds per batch, `memory` is in MiB; `agreeing` is the share of detections
    that match the CPU's within BOX and SCORE, `box` and `score` the largest differences of matched ones.
    """

    reason: str | None = None
    median: float = 0.0
    p95: float = 0.0
    memory: float = 0.0
    agreeing: float = 0.0
    box: float = 0.0
    score: float = 0.0
    notes: tuple[str, ...] = ()

    def cells(self) -> list[str]:
        """The figures as cells of a row; a reason is in the first cell."""
        if self.reason is not None:
            return [self.reason.replace("|", "/"), *["–"] * 4]
        largest = f"{self.box:.2g} px, {self.score:.2g}"
        times = (f"{value:.1f}" for value in (self.median, self.p95))
        return [*times, f"{self.memory:.0f}", f"{self.agreeing:.1%}", largest]


def measured(case: Case, form: Form, reference: Arrays) -> Figures:
    """Times, memory and agreement of the form with `reference`, the CPU's outputs for the same batch."""
    batch = case.input_batch()
    reset_peak_memory()
    before = memory_mb()
    with form.open(case) as run:
        for _ in range(case.warmup):
            outputs = run(batch.inputs())
        times = []
        for _ in range(case.rounds):
            started = time.perf_counter()
            outputs = run(batch.inputs())
            times.append(1000 * (time.perf_counter() - started))
        memory = memory_mb() - before
        notes = tuple(getattr(run, "notes", ()))
    pairs = zip(answers(case, reference, batch), answers(case, outputs, batch), strict=True)
    agreements = [agreement(*pair) for pair in pairs]
    return Figures(
        median=float(np.median(times)),
        p95=float(np.percentile(times, 95)),
        memory=memory,
        agreeing=float(np.mean([one.share(BOX, SCORE) for one in agreements])),
        box=largest(agreements, "box"),
        score=largest(agreements, "score"),
        notes=notes,
    )


def memory_mb() -> float:
    """The memory in use on the GPU, or the process's peak if torch sees no GPU."""
    return gpu_memory_mb() or peak_memory_mb() or 0.0


def answers(case: Case, outputs: Mapping[str, NDArray[Any]], batch: Batch) -> list[Detections]:
    """The detections of each image of the batch."""
    names = tuple(described()["networks"][case.network]["class_names"])
    return detections_from_outputs(outputs, batch, names)


def largest(agreements: Sequence[Agreement], what: str) -> float:
    """The largest difference of `what`, box or score, among all pairs; 0 without a pair."""
    return float(np.concatenate([getattr(one, what) for one in agreements]).max(initial=0))


def reference(case: Case) -> Arrays:
    """The outputs of PyTorch on the CPU, in fp32."""
    with eager(case, "cpu") as run:
        return run(case.input_batch().inputs())


def attempt(call: Callable[..., Any], *arguments: Any) -> tuple[Any, str | None]:
    """The result of the call, or the reason of its failure in one line; any error lets the others go on."""
    try:
        return call(*arguments), None
    except Exception as error:  # torch's, a runtime's, the exporter's
        kind = "" if isinstance(error, SameboxError | NotHere) else f"{type(error).__name__}: "
        return None, kind + textwrap.shorten(str(error), 300, placeholder=" …")


def attempt_in_own_process(call: Callable[..., Any], *arguments: Any) -> tuple[Any, str | None]:
    """The result of `attempt` in a new process: a crash on the GPU affects no other form."""
    try:
        return in_own_process(attempt, call, *arguments)
    except BrokenProcessPool:
        return None, "its process died"


def figures(
    case: Case,
    forms: Mapping[str, Form],
    call: Callable[..., tuple[Any, str | None]] = attempt_in_own_process,
) -> dict[str, Figures]:
    """The figures of each form, or the reason why there are none, printed as they come.

    Figures that an earlier run left in the case's folder are reused; forms that failed are measured again.
    """
    record = case.own("figures").with_suffix(".json")
    known = read_json(record) if record.exists() else {}
    results = {name: Figures(**values) for name, values in known.items() if values["reason"] is None}
    missing = {name: form for name, form in forms.items() if name not in results}
    reasons = make_files(case, {form.file for form in missing.values()}, call)
    expected, failure = call(reference, case) if missing else (None, None)
    for name, form in missing.items():
        reason = failure or reasons.get(form.file or "")
        one, reason = (None, reason) if reason else call(measured, case, form, expected)
        results[name] = one or Figures(reason)
        write_json(record, {name: asdict(one) for name, one in results.items()})
        print(f"{case.network}, batch {case.batch}, {name}: {' | '.join(results[name].cells())}", flush=True)
    return {name: results[name] for name in forms}


def make_files(
    case: Case, wanted: Set[str | None], call: Callable[..., tuple[Any, str | None]]
) -> dict[str, str]:
    """Make the `wanted` files that do not exist; returns the reasons why some could not be made."""
    reasons = {}
    for name, maker in MAKERS.items():
        if name in wanted and not case.file(name).exists():
            _, reason = call(maker, case)
            if reason:
                reasons[name] = f"no {name} file: {reason}"
    return reasons


# --- The sheets ---

HEADINGS = ["form", "median ms", "p95 ms", "memory MB", "agreeing", "largest difference"]


def sheet(case: Case, results: Mapping[str, Figures]) -> Sheet:
    """One network at one batch."""
    height, width = case.canvas
    rows = [[name, *one.cells()] for name, one in results.items()]
    return Sheet(f"{case.network}, {height}×{width}, batch {case.batch}", HEADINGS, rows)


def notes(case: Case, results: Mapping[str, Figures]) -> list[str]:
    """The runtimes' notes on where their nodes ran."""
    about = f"{case.network}, batch {case.batch}"
    return [f"{about}, {name}: {note}." for name, one in results.items() for note in one.notes]


def how_measured(cases: Sequence[Case]) -> list[str]:
    """How the figures were measured."""
    weights = {case.network: case.checkpoint.name if case.checkpoint else "random" for case in cases}
    return [
        f"Each figure is of {cases[0].rounds} calls, one after another, after {cases[0].warmup} of warm-up, "
        "in a process of its own, in milliseconds for the whole batch. A call takes arrays in host memory "
        "and returns such arrays: the transfers to and from the GPU are included, preparing images and "
        "pasting masks are not.",
        "Memory (MiB) is what opening and running the form adds to the memory in use on the GPU; if torch "
        "sees no GPU, to the process's largest resident memory.",
        "Agreeing is the share of detections that PyTorch in fp32 on the CPU gives for the same batch, too, "
        f"within {BOX:g} px and {SCORE:g} in score; the largest difference is that of matched detections.",
        f"Weights: {', '.join(f'{what} for {name}' for name, what in weights.items())}.",
        "TF32 is off in PyTorch, ONNX Runtime CUDA and engines; ONNX Runtime TensorRT has no option for it.",
        f"torch is built for CUDA {torch.version.cuda}.",
    ]


def main() -> None:
    """Measure and print; on a machine with a GPU write the results."""
    options = parse_arguments()
    with tempfile.TemporaryDirectory() if options.work is None else nullcontext(options.work) as folder:
        sheets = gpu_sheets(options, Path(folder)) if gpus() else cpu_sheets(options, Path(folder))
    print("\n".join(["", *(sheet.markdown() for sheet in sheets)]))


def gpu_sheets(options: argparse.Namespace, folder: Path) -> list[Sheet]:
    """All forms at 800×1344, batch 1 and 8; the results so far are written after each sheet."""
    every = cases(options, folder, (1, 8), (800, 1344))
    sheets, ran = [], []
    for case in every:
        results = figures(case, GPU_FORMS)
        sheets.append(sheet(case, results))
        ran += notes(case, results)
        write("gpu", "On a GPU", sheets, [*how_measured(every), *ran])
    return sheets


def cpu_sheets(options: argparse.Namespace, folder: Path) -> list[Sheet]:
    """The forms that a machine without a GPU can measure."""
    print("no NVIDIA GPU here: only the CPU's forms, at 256×320 and batch 1; nothing is written", flush=True)
    every = cases(options, folder, (1,), (256, 320), rounds=5, warmup=1)
    return [sheet(case, figures(case, CPU_FORMS)) for case in every]


def cases(
    options: argparse.Namespace, folder: Path, batches: Sequence[int], canvas: tuple[int, int], **turns: int
) -> list[Case]:
    """Each network at each batch."""
    images = tuple(sorted(path for path in options.images.iterdir() if path.is_file()))[: max(batches)]
    return [
        Case(name, batch, canvas, folder / name, images, options.checkpoint.get(name), **turns)
        for name in described()["networks"]
        for batch in batches
    ]


def parse_arguments() -> argparse.Namespace:
    """The command line's arguments; `checkpoint` maps networks to files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--work",
        type=Path,
        help="a folder for files and figures; existing ones are reused",
    )
    parser.add_argument(
        "--images", type=Path, default=PICTURES, help="a folder of images; default: the demo's"
    )
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="NETWORK=FILE",
        help="trained weights of a network",
    )
    options = parser.parse_args()
    options.checkpoint = dict(text.partition("=")[::2] for text in options.checkpoint)
    networks = described()["networks"]
    if unknown := set(options.checkpoint) - set(networks):
        parser.error(f"--checkpoint: {min(unknown)!r} is none of {', '.join(networks)}")
    options.checkpoint = {name: Path(file) for name, file in options.checkpoint.items()}
    return options


if __name__ == "__main__":
    main()
