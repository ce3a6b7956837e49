"""Forms of the demo's detector, for the tests of detector, evaluation, stages and pipelines.

Each file is created once, by the first test process that needs it.
"""

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from pipelines import export as pipeline
from samebox.coco.dataset import CocoDataset
from samebox.graph.export import export
from stages.compose import compose
from stages.networks import load_network

ROOT = Path(__file__).parents[1]
CHECKPOINT = ROOT / "demo/checkpoints/retinanet_shapes.pth"
IMAGES = ROOT / "demo/shapes/val"
ANNOTATIONS = ROOT / "demo/shapes/annotations/instances_val.json"
CANVAS, BATCH = (192, 224), 2


def once(name: str, make: Callable[[Path], object]) -> Path:
    """The file `name`, created by `make` unless another process has; it is deleted when the tests end."""
    path = Path(os.environ["SAMEBOX_TESTS_SHARED"], name)
    with FileLock(f"{path}.lock"):
        if not path.exists():
            make(path)
    return path


def loaded(*overrides: str):
    """The network with its trained weights and its record."""
    return load_network(compose("export", overrides), CHECKPOINT)


def dynamic() -> Path:
    """The ONNX file with dynamic batch, height and width; its export takes most of a minute."""

    def make(out: Path) -> None:
        demo = loaded()
        export(demo.network, demo.spec, out, opset=18, lowering="portable")

    return once("dynamic.onnx", make)


def fixed() -> tuple[Path, str]:
    """The simplified ONNX file with a fixed batch and canvas, and the output of the pipeline."""

    def make(text: Path) -> None:
        out = text.with_suffix(".onnx")
        asked = [f"checkpoint={CHECKPOINT}", f"out={out}", "simplify=true", "verify=true"]
        shape = ["export.shape={}x{}".format(*CANVAS), f"export.batch={BATCH}"]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            pipeline.run(compose("export_file", [*asked, *shape, f"image={IMAGES}/000020000000.jpg"]))
        text.write_text(printed.getvalue())

    text = once("fixed.txt", make)  # written last, so that the next process tries again after a failure
    return text.with_suffix(".onnx"), text.read_text()


def whole_set() -> CocoDataset:
    """All 200 images."""
    return CocoDataset(IMAGES, ANNOTATIONS)


def small_set(target: Path, count: int = 6) -> CocoDataset:
    """The first `count` images, copied to `target`/val, with annotations.json in `target`."""
    document = json.loads(ANNOTATIONS.read_text())
    document["images"] = sorted(document["images"], key=lambda image: image["id"])[:count]
    kept = {image["id"] for image in document["images"]}
    document["annotations"] = [one for one in document["annotations"] if one["image_id"] in kept]
    (target / "val").mkdir(parents=True)
    for image in document["images"]:
        shutil.copy(IMAGES / image["file_name"], target / "val")
    (target / "annotations.json").write_text(json.dumps(document))
    return CocoDataset(target / "val", target / "annotations.json")


def project(target: Path) -> Path:
    """A copy of all files that the pipeline reads, with six images, in which DVC is run."""
    for name in ("conf", "samebox", "stages", "demo/checkpoints"):
        shutil.copytree(
            ROOT / name, target / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("dvc.yaml", "params.yaml", "constraints.txt", ".dvcignore"):
        shutil.copy(ROOT / name, target)
    small_set(target / "demo/shapes")
    (target / "demo/shapes/annotations").mkdir()
    (target / "demo/shapes/annotations.json").rename(target / "demo/shapes/annotations" / ANNOTATIONS.name)
    (target / ".dvc").mkdir()
    (target / ".dvc/config").write_text(
        "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"
    )
    return target


def dvc(*arguments: str) -> list[str]:
    """The command line of DVC."""
    return [sys.executable, "-m", "dvc", *arguments]


def environment() -> dict[str, str]:
    """The environment of a process in which `python` is this interpreter."""
    found = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # threads that spin while waiting take thirty times as long if they share a core
    return os.environ | {"PATH": found, "OMP_WAIT_POLICY": "PASSIVE"}
