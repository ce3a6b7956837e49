"""Compare the forms of a checkpoint on a data set in COCO's format, in a table and a report.

Usage: samebox benchmark CHECKPOINT --data ANNOTATIONS.json --images FOLDER [--detector NAME | --config FILE]
           [--formats FORM,…] [--out FOLDER] [KEY=VALUE …]

The detector is the choice of conf/detector that names the checkpoint's hash. If there is none, the config
that MMDetection wrote into the checkpoint is adopted.

Examples:
    samebox benchmark retinanet.pth --data instances_val.json --images val
    samebox benchmark detr_r50.pth --detector detr_r50 --data val.json --images val export.opset=20
    samebox benchmark net.pth --config net.py --data val.json --images val --formats torch,simplified,fp16

Options:
    --data FILE        annotations of instances in COCO's format; its categories, by id, are the classes
    --images FOLDER    the folder of the images that the annotations name
    --detector NAME    a choice of conf/detector
    --config FILE      the config of MMDetection, detectron2 or maskrcnn-benchmark of the checkpoint
    --formats FORM,…   torch, onnx, simplified, fp16, bf16, int8, engine (that of TensorRT-RTX), or another
                       runtime, such as tensorrt_rtx_fp16; the first is the reference (torch,onnx,simplified)
    --out FOLDER       the folder of the table and the report (artifacts/benchmark/NAME)
    KEY=VALUE          the keys of `samebox chain --help`
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import yaml
from omegaconf import DictConfig

from pipelines import adopt, chain, commands
from samebox.checkpoints.unpickle import read_checkpoint
from samebox.coco.dataset import CocoDataset
from samebox.core.errors import SameboxError
from samebox.core.files import existing, sha256, write_text
from samebox.core.text import print_text
from stages import search
from stages.checkpoints import detector_of, detectors_of
from stages.compose import compose
from stages.runtimes import runtimes

HELP = "see samebox benchmark --help"
# Names of forms besides those of runtimes
ALIASES = {"engine": "tensorrt_rtx"}
# Keys of the chain that options set
OPTIONS = {
    "detector": "--detector",
    "dataset": "--data and --images",
    "runtimes": "--formats",
    "out": "--out",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SameboxError(f"{message}; {HELP}")


@dataclass(frozen=True)
class Request:
    """The arguments of the command."""

    checkpoint: Path
    data: Path
    images: Path
    detector: str | None
    config: Path | None
    runtimes: Sequence[str]
    out: Path | None
    overrides: Sequence[str]

    @classmethod
    def from_arguments(cls, arguments: Sequence[str]) -> "Request":
        """Raises SameboxError for arguments that differ from the usage."""
        parser = _Parser(add_help=False, allow_abbrev=False)
        parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path)
        parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
        parser.add_argument("--data", type=Path, required=True)
        parser.add_argument("--images", type=Path, required=True)
        detector = parser.add_mutually_exclusive_group()
        detector.add_argument("--detector")
        detector.add_argument("--config", type=Path)
        parser.add_argument("--formats", dest="runtimes", type=runtimes_of, default="torch,onnx,simplified")
        parser.add_argument("--out", type=Path)
        request = cls(**vars(parser.parse_intermixed_args(arguments)))
        for override in request.overrides:
            if option := OPTIONS.get(override.lstrip("+").partition("=")[0]):
                raise SameboxError(f"{override}: use {option}; {HELP}")
        return request


def runtimes_of(text: str) -> list[str]:
    """The runtimes of the forms in `text`. Raises SameboxError for an unknown form."""
    names = list(dict.fromkeys(text.split(",")))
    if "openvino" in names:
        raise SameboxError("--formats: openvino is not supported yet; leave it out")
    known = [*ALIASES, *runtimes()]
    for name in names:
        if name not in known:
            raise SameboxError(f"--formats: {name!r} is none of {', '.join(known)}")
    return [ALIASES.get(name, name) for name in names]


def run(request: Request) -> None:
    """Run the chain on the checkpoint and the data set, and write the table and the report."""
    with TemporaryDirectory() as folder, search.added(Path(folder)):
        chain.run(composed(request, Path(folder)), "benchmark")


def composed(request: Request, folder: Path) -> DictConfig:
    """The config of the chain for the request; its data set and an adopted detector are files in `folder`.

    Raises SameboxError for a data set that cannot be scored, and if the detector is not known.
    """
    checkpoint, dataset = existing(request.checkpoint), checked_dataset(request)
    detector = request.detector or known_detector(request)
    name = adopt.config_name(request.data)
    write_dataset(folder / "dataset" / f"{name}.yaml", request, dataset, stuff_class_names(detector))
    if detector is None:
        detector = adopt.config_name(request.config or checkpoint)
        write_text(folder / "detector" / f"{detector}.yaml", adopted_detector(request, detector, name))
    config = compose("chain", [f"detector={detector}", f"dataset={name}", *request.overrides])
    config.runtimes = list(request.runtimes)
    config.out = str(request.out or Path(config.paths.artifacts) / "benchmark" / config.detector.name)
    config.detector.source, config.detector.sha256 = str(checkpoint), sha256(checkpoint)
    config.detector.published = {}  # on the detector's own data set
    return config


def checked_dataset(request: Request) -> CocoDataset:
    """The data set. Raises SameboxError if it has no objects, or if its first image is absent."""
    dataset = CocoDataset(existing(request.images), request.data)
    dataset.check_annotated()
    for record in dataset.images[:1]:
        dataset.path(record)
    return dataset


def known_detector(request: Request) -> str | None:
    """The choice of conf/detector that names the checkpoint's hash; None if a config is to be adopted.

    Raises SameboxError if there is neither, or if several choices name the hash.
    """
    if request.config is not None:
        return None
    if detectors_of(request.checkpoint):
        return detector_of(request.checkpoint)
    if adopt.embedded_text(read_checkpoint(request.checkpoint)) is None:
        raise SameboxError(
            f"{request.checkpoint}: no choice of conf/detector names this checkpoint, and it holds no "
            "config; name one with --detector or --config"
        )
    return None


def stuff_class_names(detector: str | None) -> list[str]:
    """The names of the stuff classes of a detector's own data set, which annotations of instances lack."""
    if detector is None:
        return []
    return list(compose("download", [f"detector={detector}"]).dataset.get("stuff_class_names", ()))


def write_dataset(path: Path, request: Request, dataset: CocoDataset, stuff: Sequence[str]) -> None:
    """Write the data set as a choice of conf/dataset. Its hash makes steps run again if it changes."""
    record = {
        "name": path.stem,
        "images": str(request.images),
        "annotations": str(request.data),
        "sha256": sha256(request.data),
        "archives": [],
        "class_names": list(dataset.class_names),
    }
    write_text(path, yaml.safe_dump(record | ({"stuff_class_names": list(stuff)} if stuff else {})))


def adopted_detector(request: Request, name: str, dataset: str) -> str:
    """The text of the detector's config, adopted for the data set; remarks on it are printed."""
    adoption = adopt.Request(request.config, request.checkpoint, name)
    checkpoint = read_checkpoint(request.checkpoint)
    source, adopted = adopt.read(adoption, checkpoint)
    if adopted.num_stuff_classes:
        raise SameboxError(
            f"{source}: the detector segments stuff, whose classes the annotations of instances do not name; "
            "adopt it with `samebox adopt`, and name it with --detector"
        )
    print_text("\n".join([*adopted.remarks, f"adopted {source}: {adopted.family}"]))
    return adopt.detector_text(adoption, checkpoint, source, adopted, dataset)


def main() -> None:
    """Benchmark what the command line names."""
    run(Request.from_arguments(sys.argv[1:]))


if __name__ == "__main__":
    commands.benchmark()
