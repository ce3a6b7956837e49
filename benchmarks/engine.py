"""How long TensorRT-RTX takes to build RetinaNet-R50 at a dynamic shape, and how much memory.

python -m benchmarks.engine
"""

import logging
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.common import Sheet, retinanet_r50, show, write
from samebox.engine import EngineReport, Profile, engine_from_onnx
from samebox.export import export
from samebox.simplify import simplified_onnx
from samebox.spec import Spec
from stages.compose import compose
from stages.engine import profile


def built(path: Path, served: Profile, targets: list[str]) -> EngineReport:
    """The engine's record; it is built in a process of its own, whose memory is the build's alone."""
    quiet = partial(logging.basicConfig, level=logging.ERROR)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), quiet) as pool:
        return pool.submit(
            engine_from_onnx, path, path.with_suffix(".engine"), served, targets=targets
        ).result()


def row(report: EngineReport) -> list[str]:
    """One line of the table."""
    return [
        ", ".join(report.targets),
        f"{report.build_seconds:.1f}",
        f"{report.peak_memory_mb or 0:.0f}",
        f"{report.plan_bytes / 1e6:.1f}",
        str(report.layers),
    ]


def simplified(folder: Path) -> tuple[Path, Spec]:
    """RetinaNet-R50 as the pipeline hands it to the builder: exported at its defaults, and simplified."""
    config = compose("simplify").simplify
    network, spec = retinanet_r50()
    exported, path = folder / "exported.onnx", folder / "model.onnx"
    export(network, spec, exported, opset=18, lowering="portable")
    simplified_onnx(exported, path, config.shapes[:1], seconds=config.seconds, memory_mb=config.memory_mb)
    return path, spec


def main() -> None:
    """Build for each target, then for all at once."""
    config = compose("engine", ["detector=retinanet_r50_fpn"])
    targets = list(config.engine.targets)
    with tempfile.TemporaryDirectory() as name:
        path, spec = simplified(Path(name))
        served = profile(config, spec.preprocess)
        reports = [built(path, served, chosen) for chosen in [*([target] for target in targets), targets]]
    sheet = Sheet(
        "RetinaNet-R50 for TensorRT-RTX: one build",
        ["targets", "seconds", "peak MB", "plan MB", "layers"],
        [row(report) for report in reports],
    )
    show([sheet])
    write("engine_build", "Building an engine", [sheet], notes(served))


def notes(served: Profile) -> list[str]:
    """How the figures came about."""
    return [
        f"Profile (least, usual, largest): batch {served.batch}, height {served.height}, "
        f"width {served.width}.",
        "The graph is the portable one at opset 18, simplified. Its weights are drawn, and fp32.",
        "Seconds cover parsing and building. Peak MB (MiB) is the largest resident memory of the building "
        "process, Python, the libraries and the graph included. No GPU takes part.",
    ]


if __name__ == "__main__":
    main()
