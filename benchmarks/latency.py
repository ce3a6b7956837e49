"""ONNX Runtime against eager PyTorch on the CPU, and `samebox.load` against its bare session.

python -m benchmarks.latency [--quick]
"""

import argparse
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from benchmarks.common import drawn, how_timed, interleaved, ratio, show
from benchmarks.networks import filling
from benchmarks.sheets import Sheet, Spread, write
from samebox.detector import load
from samebox.graph.export import export
from samebox.graph.lowering import LOWERINGS
from samebox.networks.nets.contract import Deployable
from samebox.networks.nets.retinanet import RetinaNet
from samebox.predict import write_picture
from samebox.record.preprocess import Batch, read_image
from samebox.record.spec import Spec
from samebox.runners.onnxruntime import OnnxRuntimeRunner
from samebox.runners.torch import TorchRunner
from stages.compose import CONF, compose
from stages.networks import load_network

CANVASES = ((320, 416), (800, 1344))
CANDIDATES = (300, 100_000)  # an ordinary image; an image on which every level exceeds `nms_pre`
OPSET = 18
BIAS = "network.bbox_head.retina_cls.bias"
PICTURES = sorted((CONF.parent / "demo/shapes/val").glob("*.jpg"))
CHECKPOINT = CONF.parent / "demo/checkpoints/retinanet_shapes.pth"


def retinanet(network: Deployable) -> RetinaNet:
    """The network after the normalisation."""
    return cast(RetinaNet, network.network)


def class_layer(network: Deployable) -> nn.Conv2d:
    """The convolution that computes the class logits."""
    return retinanet(network).bbox_head.retina_cls


@torch.inference_mode()
def class_logits(network: Deployable, images: Tensor, sizes: Tensor) -> Tensor:
    """The class logits [N] of all levels for `images` and `sizes`, with their bias set to 0."""
    nn.init.zeros_(cast(Tensor, class_layer(network).bias))
    retina = retinanet(network)
    maps = retina.neck(retina.backbone(network.normalize(images, sizes)))
    return torch.cat([retina.bbox_head(x)[0].flatten() for x in maps])


def bias_for(candidates: int, logits: Tensor, threshold: float) -> float:
    """The bias with which exactly `candidates` sigmoids of `logits` [N] exceed `threshold`."""
    last, first_out = logits.topk(candidates + 1).values[-2:].double()
    return torch.logit(torch.tensor(threshold)).item() - (last + first_out).item() / 2


def latency(network: Deployable, spec: Spec, files: dict[str, Path], rounds: int, quick: bool) -> Sheet:
    """The three forms of RetinaNet-R50 at each canvas and each number of candidates."""
    rows = []
    for canvas in CANVASES[:1] if quick else CANVASES:
        batch = filling(read_image(PICTURES[0]), canvas)
        logits = class_logits(network, torch.from_numpy(batch.images), torch.from_numpy(batch.sizes))
        for count in CANDIDATES:
            bias = bias_for(count, logits, retinanet(network).score_threshold)
            times = forms_timed(network, spec, files, bias, batch, rounds)
            rows.append([f"{canvas[0]}×{canvas[1]}, {count} candidates", *cells(times)])
    headings = ["canvas", "PyTorch ms"]
    for lowering in LOWERINGS:
        headings += [f"{lowering} ms", f"{lowering} / PyTorch"]
    return Sheet("RetinaNet-R50: ONNX Runtime over eager PyTorch, CPU, batch 1", headings, rows)


def forms_timed(
    network: Deployable, spec: Spec, files: dict[str, Path], bias: float, batch: Batch, rounds: int
) -> dict[str, list[float]]:
    """Seconds of PyTorch and of each lowering's file with this bias of the class logits."""
    nn.init.constant_(cast(Tensor, class_layer(network).bias), bias)
    with ExitStack() as stack:
        forms: dict[str, Callable[..., object]] = {"torch": stack.enter_context(TorchRunner(network, spec))}
        for lowering, path in files.items():
            set_bias(path, bias)
            forms[lowering] = stack.enter_context(OnnxRuntimeRunner(path))
        inputs = batch.inputs()
        calls = {name: (lambda run=run: run(inputs)) for name, run in forms.items()}
        return interleaved(calls, rounds)


def set_bias(path: Path, bias: float) -> None:
    """Set the bias of the class logits in an ONNX file."""
    model = onnx.load(path)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == BIAS)
    values = np.full(tensor.dims, bias, np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values, BIAS))
    onnx.save(model, path)


def cells(times: dict[str, list[float]]) -> list[str]:
    """PyTorch's milliseconds, then each lowering's and its ratio to PyTorch's."""
    milliseconds = {name: f"{Spread.of([1000 * t for t in seconds]):.0f}" for name, seconds in times.items()}
    return [
        milliseconds["torch"],
        *(c for name in LOWERINGS for c in (milliseconds[name], f"{ratio(times, name, 'torch'):.2f}")),
    ]


def pipeline(name: str, path: Path, pictures: list[Path], rounds: int) -> list[str]:
    """One row: images/s of the bare session, and of `samebox.load(path)` for arrays and for files."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with load(path) as detector:
        images = [read_image(picture) for picture in pictures]
        inputs = [detector.preprocess([image]).inputs() for image in images]
        times = interleaved(
            {
                "bare": lambda: [session.run(None, one) for one in inputs],
                "arrays": lambda: [detector(image) for image in images],
                "files": lambda: [detector(picture) for picture in pictures],
            },
            rounds,
        )
    rates = {key: f"{Spread.of([len(pictures) / t for t in seconds]):.2f}" for key, seconds in times.items()}
    return [
        name,
        rates["bare"],
        *(c for key in ("arrays", "files") for c in (rates[key], f"{ratio(times, 'bare', key):.3f}")),
    ]


def pipelines(folder: Path, r50: Path, rounds: int, quick: bool) -> Sheet:
    """The demo's network on the demo's images and, unless quick, RetinaNet-R50 on enlarged ones."""
    loaded = load_network(compose("export", ["detector=retinanet_shapes"]), CHECKPOINT)
    small = folder / "shapes.onnx"
    export(loaded.network, loaded.spec, small, opset=OPSET, lowering="portable")
    rows = [pipeline("retinanet_shapes, 50 demo images", small, PICTURES[:50], rounds)]
    if not quick:
        large = [enlarged(picture, folder) for picture in PICTURES[:2]]
        rows.append(pipeline("RetinaNet-R50, 2 images of 480×800", r50, large, rounds))
    headings = [
        "network",
        "bare images/s",
        "arrays images/s",
        "arrays / bare",
        "files images/s",
        "files / bare",
    ]
    return Sheet("samebox.load(...)(image) over a bare session.run, portable, CPU", headings, rows)


def enlarged(picture: Path, folder: Path) -> Path:
    """The picture at 480×800, which RetinaNet's rule resizes to 800×1333 on a canvas of 800×1344."""
    target = folder / picture.name
    write_picture(target, np.asarray(cv2.resize(read_image(picture), (800, 480)), np.uint8))
    return target


def main() -> None:
    """Export each lowering, measure, print, and write the results unless quick."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the small canvas, 3 rounds; nothing is written")
    quick = parser.parse_args().quick
    rounds = 3 if quick else 7
    network, spec = drawn("retinanet_r50_fpn")
    with tempfile.TemporaryDirectory() as name:
        files = {lowering: Path(name) / f"{lowering}.onnx" for lowering in LOWERINGS}
        for lowering, path in files.items():
            export(network, spec, path, opset=OPSET, lowering=lowering)
        sheets = [
            latency(network, spec, files, rounds, quick),
            pipelines(Path(name), files["portable"], rounds, quick),
        ]
    show(sheets)
    if not quick:
        write("latency_cpu", "Latency on the CPU", sheets, notes(rounds))


def notes(rounds: int) -> list[str]:
    """How the figures were measured."""
    return [
        *how_timed(rounds),
        "RetinaNet-R50 has random weights; the bias of its class logits is set so that the stated number of "
        "(anchor, class) pairs exceeds the score threshold of 0.05.",
        "Arrays are decoded images; files are read and decoded each time. Both are resized, padded and run, "
        "and their boxes are scaled to the image's pixels. The bare session gets the prepared arrays.",
    ]


if __name__ == "__main__":
    main()
