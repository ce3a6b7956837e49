"""Time and memory from PyTorch to TensorRT-RTX engines of dynamic shape, in fp32 and in fp16.

The engines are built from the simplified file and from its conversion to fp16.

python -m benchmarks.engine [DETECTOR ...]
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig

from benchmarks.common import drawn, show
from benchmarks.processes import in_own_process
from benchmarks.sheets import Sheet, write
from samebox.core.errors import NotHere, SameboxError
from samebox.engine.build import engine_from_onnx
from samebox.engine.layer_types import layers_by_precision
from samebox.engine.profile import Profile
from samebox.engine.record import EngineReport
from samebox.graph.export import export
from samebox.graph.simplify import SimplifyReport, simplify_onnx
from samebox.precision.convert import PrecisionReport, convert_precision
from stages.compose import compose, guarded
from stages.engine import profile
from stages.networks import preprocess
from stages.precision import images, rule

# Each family of conf/family, and the deepest backbone
DETECTORS = (
    "retinanet_r50_fpn",
    "fcos_r50_caffe_fpn_gn_head",
    "fsaf_r50_fpn",
    "ssd300",
    "ssdlite_mobilenetv2",
    "yolov3_d53_608",
    "yolov3_mobilenetv2_320",
    "detr_r50",
    "solov2_light_r34_fpn",
    "solov2_r50_fpn",
    "cornernet_hourglass104",
    "faster_rcnn_r50_fpn",
    "mask_rcnn_r50_fpn",
    "cascade_rcnn_r50_fpn",
    "cascade_mask_rcnn_r50_fpn",
    "mask_rcnn_r101_fpn",
    "point_rend_r50_caffe_fpn",
    "d2_retinanet_r50_fpn_1x",
    "d2_faster_rcnn_r50_fpn_1x",
    "d2_mask_rcnn_r50_fpn_1x",
    "d2_keypoint_rcnn_r50_fpn_1x",
    "d2_panoptic_fpn_r50_1x",
    "mb_faster_rcnn_r50_fpn_1x",
    "mb_mask_rcnn_r50_fpn_1x",
    "mb_keypoint_rcnn_r50_fpn_1x",
)
# Also built for each target alone
BY_TARGET = "retinanet_r50_fpn"
# The simplified file that engines are built from
MODEL = "model.onnx"
# The folder and number of the images on which overflows are searched
SEARCHED = Path(__file__).parents[1] / "demo" / "shapes" / "val"
COUNT = 2
# Errors that end one detector; the others are measured all the same
FAILURES = (SameboxError, NotHere, torch.onnx.OnnxExporterError, BrokenProcessPool)


@dataclass
class Measured:
    """The steps that one detector reached, and the error that ended it."""

    detector: str
    export_seconds: float | None = None
    simplify: SimplifyReport | None = None
    engine: EngineReport | None = None
    half: PrecisionReport | None = None
    half_engine: EngineReport | None = None
    failure: str | None = None

    def row(self) -> list[str]:
        """One row of the table, with a dash for steps that were not reached."""
        return [
            self.detector,
            "–" if self.export_seconds is None else f"{self.export_seconds:.1f}",
            "–" if self.simplify is None else f"{self.simplify.seconds:.1f}",
            *(["–"] * 4 if self.engine is None else figures(self.engine)),
        ]

    def half_row(self) -> list[str]:
        """The row for fp16: products with weights by precision, the build, and its layers by type."""
        return [
            self.detector,
            "–" if self.half is None else named_counts(self.half.products),
            *(["–"] * 4 if self.half_engine is None else figures(self.half_engine)),
            "–" if self.half_engine is None else layers_by_type(self.half_engine),
        ]

    def remark(self) -> str | None:
        """A note if the detector was not built like the others."""
        if self.failure:
            return f"{self.detector} was not built{' in fp16' if self.engine else ''}: {self.failure}"
        if self.simplify and not self.simplify.simplified:
            return f"{self.detector} was built unsimplified: {self.simplify.reason}"
        return None


def figures(report: EngineReport) -> list[str]:
    """Seconds, peak MB, plan MB and layers of a build."""
    return [
        f"{report.build_seconds:.1f}",
        f"{report.peak_memory_mb or 0:.0f}",
        f"{report.plan_bytes / 1e6:.1f}",
        str(report.layers),
    ]


def layers_by_type(report: EngineReport) -> str:
    """The number of layers by the type of their real-valued output."""
    return named_counts(layers_by_precision(report.types))


def named_counts(counts: Mapping[str, int]) -> str:
    """Counts with their names, such as "3 fp16, 1 fp32"."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def measured(config: DictConfig, folder: Path) -> Measured:
    """Export the detector of `config` at its defaults, simplify it, and build it for all targets at once.

    The simplified file stays at `folder`/MODEL.
    """
    result = Measured(config.detector.name)
    exported, path = folder / "exported.onnx", folder / MODEL
    try:
        result.export_seconds = in_own_process(export_seconds, result.detector, exported)
        print_step(result, f"exported in {result.export_seconds:.1f} s")
        limits = config.simplify
        result.simplify = simplify_onnx(
            exported, path, limits.shapes[:1], seconds=limits.seconds, memory_mb=limits.memory_mb
        )
        print_step(result, f"simplified in {result.simplify.seconds:.1f} s")
        result.engine = engine(config, path, config.engine.targets)
        print_step(result, f"built in {result.engine.build_seconds:.1f} s")
        half = folder / "fp16.onnx"
        result.half = in_own_process(half_precision, result.detector, path, half)
        result.half_engine = engine(config, half, config.engine.targets)
        print_step(result, f"built in fp16 in {result.half_engine.build_seconds:.1f} s")
    except FAILURES as failure:
        result.failure = " ".join(str(failure).replace(f"{folder}/", "").split())
    if remark := result.remark():
        print_step(result, remark)
    return result


def print_step(result: Measured, step: str) -> None:
    """Print the step that a detector has reached."""
    print(f"{result.detector}: {step}", flush=True)


def export_seconds(detector: str, path: Path) -> float:
    """Export the detector with random weights at the stage's defaults; returns the seconds of the export."""
    step = compose("export").export
    network, spec = drawn(detector)
    started = time.perf_counter()
    export(network, spec, path, opset=step.opset, lowering=step.lowering)
    return time.perf_counter() - started


def half_precision(detector: str, source: Path, target: Path) -> PrecisionReport:
    """Convert the file at `source` to fp16 at `target`, by the stage's defaults."""
    config = compose("precision", [f"detector={detector}"])
    return convert_precision(source, target, "fp16", rule(config), images(SEARCHED, COUNT))


def engine(config: DictConfig, path: Path, targets: Sequence[str]) -> EngineReport:
    """Build the ONNX file at `path` for the profile of `config`; returns the engine's record."""
    build = partial(engine_from_onnx, targets=list(targets))
    return in_own_process(build, path, path.with_suffix(".engine"), served(config))


def target_by_target(config: DictConfig, path: Path) -> list[list[str]]:
    """A row for each target: the ONNX file at `path` built for it alone."""
    return [[target, *figures(engine(config, path, [target]))] for target in config.engine.targets]


def served(config: DictConfig) -> Profile:
    """The profile of the detector's engine."""
    return profile(config, preprocess(config))


def main() -> None:
    """Measure one detector after another; a run over all of them writes its results after each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__.splitlines()[0])
    parser.add_argument("detectors", nargs="*", help="names in conf/detector, printed only; none: all")
    names = parser.parse_args().detectors
    configs = [compose("chain", [f"detector={name}"]) for name in names or DETECTORS]
    results: list[Measured] = []
    by_target: list[list[str]] = []
    for config in configs:
        with tempfile.TemporaryDirectory() as name:
            result = measured(config, Path(name))
            results.append(result)
            if result.engine and result.detector == BY_TARGET:
                by_target = target_by_target(config, Path(name) / MODEL)
        if not names:
            write(
                "engine_build",
                "From PyTorch to an engine",
                sheets(results, by_target),
                notes(configs, results),
            )
    show(sheets(results, by_target))


def sheets(results: Sequence[Measured], by_target: Sequence[Sequence[str]]) -> list[Sheet]:
    """All detectors for all targets and, if it was measured, one of them target by target."""
    build = ["engine s", "peak MB", "plan MB", "layers"]
    tables = [
        Sheet(
            "TensorRT-RTX for all targets at once",
            ["detector", "export s", "simplify s", *build],
            [result.row() for result in results],
        ),
        Sheet(
            "The same in fp16",
            ["detector", "products with weights", *build, "layers by type"],
            [result.half_row() for result in results],
        ),
    ]
    if by_target:
        tables.append(Sheet(f"{BY_TARGET} for one target", ["target", *build], by_target))
    return tables


def notes(configs: Sequence[DictConfig], results: Sequence[Measured]) -> list[str]:
    """How the figures were measured, and which detectors were not built like the others."""
    profiles = dict.fromkeys(served(config) for config in configs)
    step = compose("export").export
    return [
        *(remark for result in results if (remark := result.remark())),
        *(
            f"Profile (min, opt, max): batch {one.batch}, height {one.height}, width {one.width}."
            for one in profiles
        ),
        f"All targets: {', '.join(configs[0].engine.targets)}. The graph is the {step.lowering} one at opset "
        f"{step.opset} with dynamic batch, height and width. Its weights are random, and fp32.",
        "Simplifying includes the check that the result gives what the exported graph gives, at "
        f"{'×'.join(map(str, configs[0].simplify.shapes[0]))} (batch, height, width).",
        f"fp16 is made from the simplified file, with overflows searched on {COUNT} images. Layers are "
        "counted by the type of their first output; those of integers and booleans are in the total only.",
        "Engine seconds cover parsing and building. Peak MB (MiB) is the largest resident memory of the "
        "building process, Python, the libraries and the graph included. No GPU is involved.",
    ]


if __name__ == "__main__":
    guarded(main)
