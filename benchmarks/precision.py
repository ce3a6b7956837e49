"""AP of each precision on the demo's images, and build time, size and layers of its engine.

python -m benchmarks.precision [DETECTOR ...]
"""

import argparse
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from benchmarks.common import show
from benchmarks.engine import layers_by_type, named_counts
from benchmarks.sheets import Sheet, write
from pipelines.chain import evaluated_form, with_form, with_simplified
from samebox.comparing.comparison import signed
from samebox.comparing.measures import measure
from samebox.core.files import read_json
from samebox.engine.record import EngineReport, engine_report
from stages.compose import artifact, compose, guarded

DETECTORS = ("retinanet_shapes", "mask_rcnn_shapes")
FORMS = ("torch", "simplified", "fp16", "bf16", "int8")
ENGINES = {"fp32": "tensorrt_rtx", **{name: f"tensorrt_rtx_{name}" for name in ("fp16", "bf16", "int8")}}
METHODS = ("percentile", "entropy", "minmax")
# Calibrated by each of METHODS
BY_METHOD = "retinanet_shapes"
TARGET = "SM89"
KINDS = ("bbox", "segm")


def composed(detector: str, *settings: str) -> DictConfig:
    """The chain's configuration at batch 1 and for one target."""
    overrides = [f"detector={detector}", "evaluate.batches=[1]", f"engine.targets=[{TARGET}]", *settings]
    return compose("chain", overrides)


def scores(config: DictConfig) -> list[list[str]]:
    """A row for each of FORMS: products by precision, AP and its difference, MB."""
    config = with_simplified(config)
    lines, reference = [], None
    for runtime in FORMS:
        metrics = evaluated_form(config, runtime).metrics
        reference = reference or metrics
        prepared = with_form(config, runtime)
        report = artifact(prepared, prepared.runtime.folder, prepared.paths.precision_file)
        products = read_json(report)["products"] if report.exists() else {}
        lines.append(
            [
                f"{config.detector.name}, {metrics['title']}",
                named_counts(products) or "–",
                *(cell for kind in KINDS for cell in figures(metrics, reference, kind)),
                f"{metrics['artifact_mb']:.1f}",
            ]
        )
    return lines


def figures(metrics: dict[str, Any], reference: dict[str, Any], kind: str) -> tuple[str, str]:
    """AP in points and its difference to the reference's; dashes if the detector has none of this kind."""
    value, base = (measure(one, kind, 1) for one in (metrics, reference))
    if isinstance(value, str) or isinstance(base, str):
        return "–", "–"
    return f"{value:.2f}", "–" if metrics is reference else signed(value - base)


def methods(detector: str) -> list[list[str]]:
    """A row for each calibration method of int8."""
    lines = []
    for method in METHODS:
        config = with_simplified(composed(detector, f"precision.method={method}"))
        reference, metrics = (evaluated_form(config, runtime).metrics for runtime in ("torch", "int8"))
        cells = [cell for kind in KINDS for cell in figures(metrics, reference, kind)]
        lines.append([f"{detector}, {method}", *cells])
    return lines


def engines(config: DictConfig) -> list[list[str]]:
    """A row for the engine of each precision."""
    config = with_simplified(config)
    lines = []
    for precision, runtime in ENGINES.items():
        prepared = with_form(config, runtime)
        report = engine_report(artifact(prepared, prepared.runtime.folder, prepared.runtime.file))
        lines.append([f"{config.detector.name}, {precision}", *engine_figures(report)])
    return lines


def engine_figures(report: EngineReport) -> list[str]:
    """Seconds, plan MB, layers, and layers by the type of their real-valued output."""
    return [
        f"{report.build_seconds:.1f}",
        f"{report.plan_bytes / 1e6:.1f}",
        str(report.layers),
        layers_by_type(report),
    ]


def sheets(detectors: Sequence[str]) -> list[Sheet]:
    """All tables; the detectors are measured one after another."""
    by_method = methods(BY_METHOD) if BY_METHOD in detectors else []
    configs = [composed(name) for name in detectors]
    figures = ["box AP", "Δ", "mask AP", "Δ"]
    tables = [
        Sheet(
            "Accuracy on shapes, ONNX Runtime on the CPU",
            ["detector and form", "products with weights", *figures, "MB"],
            [line for config in configs for line in scores(config)],
        ),
        Sheet(
            f"TensorRT-RTX engines for {TARGET}",
            ["detector and precision", "build s", "plan MB", "layers", "layers by type"],
            [line for config in configs for line in engines(config)],
        ),
    ]
    if by_method:
        tables.append(
            Sheet("int8 by the method of calibration", ["detector and method", *figures], by_method)
        )
    return tables


def notes() -> list[str]:
    """How the figures were measured."""
    step = compose("precision").precision
    return [
        "AP is COCO's over the 200 images of demo/shapes, at batch 1; Δ is against PyTorch, in points.",
        f"int8's ranges and the overflows come from {step.count} of the same 200 images, evenly spread: the "
        "demo has no other split. Weights have a scale for each channel.",
        "fp16 and bf16 run in fp32 kernels, and the output of each node of the 16-bit part is rounded to the "
        "type; sums within a product stay fp32. conf/step/precision.yaml lists what leaves fp32.",
        "Engines were built without a GPU and not run. Their layers are counted by the type of their first "
        "output; layers of integers and booleans, mostly shapes and indices, are in the total only.",
    ]


def main() -> None:
    """Measure and print; a run over all detectors writes the results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.precision", description=__doc__.splitlines()[0]
    )
    parser.add_argument("detectors", nargs="*", help="names in conf/detector, printed only; none: both")
    names = parser.parse_args().detectors
    measured = sheets(names or DETECTORS)
    show(measured)
    if not names:
        write("precision", "Precisions", measured, notes())


if __name__ == "__main__":
    guarded(main)
