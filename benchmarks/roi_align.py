"""RoIAlign alone on the CPU: in plain ONNX operators, as ONNX's RoiAlign, and in eager PyTorch.

python -m benchmarks.roi_align [--quick]
"""

import argparse
import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.common import how_timed, interleaved, ratio, show
from benchmarks.sheets import Sheet, Spread, write
from samebox.graph.lowering import LOWERINGS, TRANSLATIONS, lowered
from samebox.graph.opset import EXPORTER_OPSET
from samebox.networks.blocks.roi_align import RoIAlign

HEIGHT, WIDTH, CHANNELS = 800, 1088, 256
STRIDES = (4, 8, 16, 32)
# Regions and bins per side: those of a box head and of a mask head
CASES = ((1000, 7), (100, 14))
INPUTS = ("p2", "p3", "p4", "p5", "boxes")


class Aligned(nn.Module):
    """RoIAlign as a graph: the maps and the boxes are its inputs."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.roi_align = RoIAlign(size, STRIDES)

    def forward(self, p2: Tensor, p3: Tensor, p4: Tensor, p5: Tensor, boxes: Tensor) -> Tensor:
        """As RoIAlign.forward."""
        return self.roi_align([p2, p3, p4, p5], boxes)


def drawn_maps(height: int, width: int) -> list[Tensor]:
    """A pyramid [1,CHANNELS,height/stride,width/stride] of normal random numbers."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, CHANNELS, height // s, width // s, generator=generator) for s in STRIDES]


def drawn_regions(count: int) -> NDArray[np.float32]:
    """Random regions [count,4] in the canvas, x1 y1 x2 y2 in pixels, distributed about as an RPN's.

    Before they are clipped to the canvas, the square root of the area is log-uniform in 16..800 pixels,
    and the ratio of the longer side to the shorter has quantiles 1.8 (50 %), 5 (90 %) and 17 (99 %).
    """
    generator = np.random.default_rng(0)
    sizes = np.exp(generator.uniform(np.log(16), np.log(800), count))
    stretch = np.exp(0.4 * generator.weibull(1.2, count) * generator.choice([-1, 1], count))
    sides = np.stack([sizes * stretch, sizes / stretch], 1)
    canvas = np.array([WIDTH, HEIGHT])
    centres = generator.uniform(0, 1, (count, 2)) * canvas
    corners = [(centres - sides / 2).clip(0, canvas), (centres + sides / 2).clip(0, canvas)]
    return np.concatenate(corners, 1).astype(np.float32)


def exported(count: int, size: int, lowering: str, path: Path) -> onnxruntime.InferenceSession:
    """A session of RoIAlign for `count` regions; batch and map sizes are dynamic, as in a network's graph."""
    module = lowered(Aligned(size), lowering, EXPORTER_OPSET).eval()
    # different heights and widths: the tracer takes equal sizes for one dimension
    traced = [torch.zeros(2, CHANNELS, 64 // s, 96 // s) for s in (1, 2, 4, 8)]
    dynamic = torch.export.Dim.DYNAMIC
    torch.onnx.export(
        module,
        (*traced, torch.tensor([8.0, 8.0, 40.0, 40.0]).expand(2, count, 4)),
        path,
        dynamo=True,
        opset_version=EXPORTER_OPSET,
        input_names=INPUTS,
        dynamic_shapes=(*[{0: dynamic, 2: dynamic, 3: dynamic}] * len(STRIDES), {0: dynamic}),
        custom_translation_table=TRANSLATIONS,
        verbose=False,
    )
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@torch.inference_mode()
def timed(maps: Sequence[Tensor], count: int, size: int, rounds: int) -> list[str]:
    """Milliseconds of PyTorch and both lowerings, the lowerings' ratio and their largest difference."""
    inputs = [*maps, torch.from_numpy(drawn_regions(count))[None]]
    feed = dict(zip(INPUTS, (value.numpy() for value in inputs), strict=True))
    eager = Aligned(size)
    with tempfile.TemporaryDirectory() as folder:
        sessions = {name: exported(count, size, name, Path(folder) / f"{name}.onnx") for name in LOWERINGS}
    runs = {name: (lambda session=session: session.run(None, feed)[0]) for name, session in sessions.items()}
    difference = np.abs(runs["portable"]() - runs["onnx"]()).max()
    times = interleaved({"torch": lambda: eager(*inputs), **runs}, rounds)
    milliseconds = {name: f"{Spread.of([1000 * t for t in seconds]):.0f}" for name, seconds in times.items()}
    return [*milliseconds.values(), f"{ratio(times, 'portable', 'onnx'):.2f}", f"{difference:.1e}"]


def main() -> None:
    """Measure each case, print, and write the results unless quick."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.roi_align", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="3 rounds; nothing is written")
    quick = parser.parse_args().quick
    rounds = 3 if quick else 31
    quieten()
    maps = drawn_maps(HEIGHT, WIDTH)
    headings = [
        "regions and bins",
        "PyTorch ms",
        *(f"{lowering} ms" for lowering in LOWERINGS),
        "portable / onnx",
        "largest difference",
    ]
    rows = [[f"{count} into {size}×{size}", *timed(maps, count, size, rounds)] for count, size in CASES]
    sheet = Sheet(f"RoIAlign, {CHANNELS} channels, a canvas of {HEIGHT}×{WIDTH}", headings, rows)
    show([sheet])
    if not quick:
        write("roi_align", "RoIAlign", [sheet], notes(rounds))


def quieten() -> None:
    """Silence the exporter's warnings about its own deprecations and about what it leaves in a graph."""
    warnings.simplefilter("ignore", FutureWarning)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    onnxruntime.set_default_logger_severity(3)


def notes(rounds: int) -> list[str]:
    """How the figures were measured."""
    return [
        *how_timed(rounds),
        f"Maps of strides {', '.join(map(str, STRIDES))} hold normal random numbers; the largest difference "
        "is between the values of the two lowerings.",
        "Regions are random, distributed about as an RPN's: square root of the area log-uniform in 16..800 "
        "pixels, long to short side 1.8 at the median, below 5 for 90 %, above 17 for 1 %, then clipped to "
        "the canvas.",
        f"Both graphs have opset {EXPORTER_OPSET}: portable uses plain operators, onnx one RoiAlign per "
        "level, which gets the regions of that level only.",
    ]


if __name__ == "__main__":
    main()
