"""A detector in ONNX Runtime and in eager PyTorch on the CPU, at one canvas that the image fills.

python -m benchmarks.forms [DETECTOR HEIGHT WIDTH] [--quick]
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.common import drawn, how_timed, interleaved, ratio, show
from benchmarks.networks import filling
from benchmarks.sheets import Sheet, Spread, write
from samebox.graph.export import export
from samebox.record.preprocess import read_image
from samebox.runners.onnxruntime import OnnxRuntimeRunner
from samebox.runners.torch import TorchRunner
from stages.compose import CONF

PICTURE = CONF.parent / "demo/shapes/val/000020000000.jpg"
# What SOLO's own deployment measures
SOLO = ("solov2_light_r34_fpn", 448, 672)
OPSET = 18


def row(detector: str, height: int, width: int, rounds: int) -> list[str]:
    """The detector's milliseconds per image in each form, and their ratio."""
    network, spec = drawn(detector)
    inputs = filling(read_image(PICTURE), (height, width)).inputs()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder) / "model.onnx"
        export(network, spec, path, opset=OPSET, lowering="portable")
        eager = stack.enter_context(TorchRunner(network, spec))
        session = stack.enter_context(OnnxRuntimeRunner(path))
        times = interleaved({"torch": lambda: eager(inputs), "onnx": lambda: session(inputs)}, rounds)
    milliseconds = [f"{Spread.of([1000 * t for t in seconds]):.0f}" for seconds in times.values()]
    return [f"{detector}, {height}×{width}", *milliseconds, f"{ratio(times, 'onnx', 'torch'):.2f}"]


def main() -> None:
    """Measure and print; write the results unless `--quick` or another detector than SOLO's is given."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forms", description=__doc__.splitlines()[0])
    parser.add_argument("target", nargs="*", default=SOLO, metavar="DETECTOR HEIGHT WIDTH")
    parser.add_argument("--quick", action="store_true", help="3 rounds; nothing is written")
    arguments = parser.parse_args()
    if len(arguments.target) != 3:
        parser.error("name a detector, a height and a width")
    detector, height, width = arguments.target
    rounds = 3 if arguments.quick else 15
    headings = ["detector and canvas", "PyTorch ms", "ONNX Runtime ms", "ONNX Runtime / PyTorch"]
    sheet = Sheet(
        "Batch 1 on the CPU, opset 18, portable", headings, [row(detector, int(height), int(width), rounds)]
    )
    show([sheet])
    if not arguments.quick and tuple(arguments.target) == SOLO:
        write("solov2_cpu", "SOLOv2-light on the CPU", [sheet], notes(rounds))


def notes(rounds: int) -> list[str]:
    """How the figures were measured."""
    return [
        *how_timed(rounds),
        "Weights are random. SOLOv2 computes the same number of pairs and masks for every image. Pre- and "
        "post-processing are not in the figures.",
    ]


if __name__ == "__main__":
    main()
