"""Export one checkpoint to one ONNX file.

Usage: samebox export detector=NAME checkpoint=FILE out=FILE.onnx [KEY=VALUE …]

Examples:
    samebox export detector=retinanet_r50_fpn checkpoint=retinanet.pth out=retinanet.onnx
    samebox export detector=retinanet_r50_fpn checkpoint=retinanet.pth out=fixed.onnx export.shape=800x1344
    samebox export checkpoint=retinanet.pth out=retinanet.onnx simplify=true verify=true image=photo.jpg
"""

import math
import re
import tempfile
from pathlib import Path

from omegaconf import DictConfig

from pipelines import commands
from samebox.core.errors import SameboxError
from samebox.core.fetch import fetch
from samebox.core.files import existing
from samebox.core.text import print_text
from samebox.detector import Detector, load
from samebox.evaluation.agreement import ALIKE, LEAST_SHARE, agreement
from samebox.graph.export import export
from samebox.graph.simplify import simplify_onnx
from samebox.runners.torch import TorchRunner
from stages.networks import LoadedNetwork, batch_size, load_network


def run(config: DictConfig) -> None:
    """Load the checkpoint, export it, and simplify and verify the file if the config says so."""
    if config.verify and not config.export.postprocess:
        raise SameboxError(
            "verify: there are no detections to compare with export.postprocess=false; leave it out"
        )
    out = Path(config.out)
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_network(config, checkpoint(config, Path(folder)))
        unsimplified = Path(folder) / "model.onnx" if config.simplify else out
        export(
            loaded.network,
            loaded.spec,
            unsimplified,
            opset=config.export.opset,
            lowering=config.export.lowering,
            batch=batch_size(config.export.batch),
        )
        if config.simplify:
            simplify(config, unsimplified, out)
    if loaded.refusal:
        print_text(loaded.refusal)
    print_text(
        f"{out}: {out.stat().st_size / 1e6:.1f} MB, opset {config.export.opset}, {config.export.lowering}"
    )
    if config.verify:
        verify(loaded, out, existing(config.image, "name one with image="))


def checkpoint(config: DictConfig, folder: Path) -> Path:
    """The checkpoint's file; from an address, it is downloaded to `folder`."""
    source = str(config.checkpoint)
    if re.match(r"https?://", source):
        return fetch(source, folder / "checkpoint.pth")
    return existing(source, "name a checkpoint's file or address with checkpoint=")


def simplify(config: DictConfig, source: Path, out: Path) -> None:
    """Simplify `source` to `out`, and print the result."""
    report = simplify_onnx(
        source, out, config.limits.shapes, seconds=config.limits.seconds, memory_mb=config.limits.memory_mb
    )
    nodes = f"{sum(report.before.values())} nodes before, {sum(report.after.values())} after"
    print_text(f"not simplified: {report.reason}" if report.reason else f"simplified: {nodes}")


def verify(loaded: LoadedNetwork, out: Path, image: Path) -> None:
    """Print how ONNX Runtime and PyTorch agree on `image`. Raises SameboxError if they do not agree."""
    with Detector(TorchRunner(loaded.network, loaded.spec).__enter__()) as detector:
        reference = detector(image)
    with load(out) as detector:
        compared = agreement(reference, detector(image))
    print_text(f"{image}: {compared}")
    if not compared.reference and not compared.other and compared.pixels is None:
        raise SameboxError(
            f"verify: neither PyTorch nor ONNX Runtime detects anything in {image}, so nothing was compared; "
            "name an image with objects by image=FILE"
        )
    # a single pixel moves a box around a mask: there the masks are compared
    limits = ALIKE if "boxes" in loaded.network.outputs else ALIKE | {"box": math.inf}
    if compared.share(**limits) < LEAST_SHARE:
        masks = "" if compared.mask is None else f", with masks to an IoU of {ALIKE['mask']}"
        keypoints = "" if compared.keypoint is None else f", their keypoints to {ALIKE['keypoint']} px"
        raise SameboxError(
            f"{out}: less than {LEAST_SHARE:.0%} of the detections agree with PyTorch to {ALIKE['box']} px "
            f"and {ALIKE['score']} in score{masks}{keypoints}; export with simplify=false, or with the other "
            "export.lowering"
        )
    if compared.pixels is not None and compared.pixels < LEAST_SHARE:
        raise SameboxError(
            f"{out}: only {compared.pixels:.1%} of the pixels have the same class as in PyTorch; "
            "export with simplify=false, or with the other export.lowering"
        )


if __name__ == "__main__":
    commands.export()
