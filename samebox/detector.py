"""A detector that takes images and gives detections, whatever runs its network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from samebox.core.errors import SameboxError
from samebox.postprocess.detections import Detections, detections_from_outputs
from samebox.record.preprocess import Batch, Image, read_image
from samebox.record.spec import Spec
from samebox.runners.protocol import Runner


class Detector:
    """Images in, detections out; configured by nothing but what travels with the network.

    A call takes one image, `batch` several of any sizes. An image is a path or an array [H,W,3] RGB
    uint8. The detector closes its runner when its `with` block ends, or by `close`.
    """

    def __init__(self, runner: Runner) -> None:
        """`runner` is one that has been entered. Raises SameboxError where it gives no detections."""
        self.runner = runner
        self.spec = Spec.from_metadata(runner.metadata, runner.name)
        if not self.spec.postprocess:
            raise SameboxError(
                f"{runner.name}: gives the maps of its heads, no detections: export it with "
                "export.postprocess=true"
            )

    def __enter__(self) -> "Detector":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.runner.__exit__(kind, error, trace)

    def close(self) -> None:
        """Free what the runner holds."""
        self.runner.__exit__(None, None, None)

    def __call__(self, image: str | Path | Image) -> Detections:
        """The detections of one image. Raises SameboxError for what is no image, or one too large."""
        return self.batch([image])[0]

    def batch(
        self, images: Sequence[str | Path | Image], canvas: tuple[int, int] | None = None
    ) -> list[Detections]:
        """The detections of each image, all run as one batch on one canvas.

        `canvas` (height, width) asks for a larger one than they need. A network of a fixed batch runs as
        often as needed.
        """
        size = self.runner.batch or max(len(images), 1)
        found: list[Detections] = []
        for start in range(0, len(images), size):
            batch = self.prepare([pixels(image) for image in images[start : start + size]], canvas)
            found += self.finish(self.runner(filled(batch, size).inputs()), batch)
        return found

    def prepare(self, images: Sequence[Image], canvas: tuple[int, int] | None = None) -> Batch:
        """What the network is asked for these images."""
        return self.spec.preprocess(images, canvas)

    def finish(self, outputs: Mapping[str, NDArray[Any]], batch: Batch) -> list[Detections]:
        """The network's answer to `batch`, an image each."""
        asked = len(batch.sizes)
        answered = {name: output[:asked] for name, output in outputs.items()}
        return detections_from_outputs(answered, batch, self.spec.class_names, self.spec.decoding)


def pixels(image: str | Path | Image) -> Image:
    """The array itself, or what is read from the path."""
    return read_image(image) if isinstance(image, str | Path) else image


def filled(batch: Batch, size: int) -> Batch:
    """`batch` with its first image repeated until there are `size`, for a network of a fixed batch."""
    spare = size - len(batch.sizes)
    if spare <= 0:
        return batch
    index = [*range(len(batch.sizes)), *[0] * spare]
    return Batch(batch.images[index], batch.sizes[index], batch.originals[index])


# Suffix of a file → the runtime that takes it unless another is named
SUFFIXES = {
    ".onnx": "onnxruntime",
    ".engine": "tensorrt",
    ".pth": "torch",
    ".pkl": "torch",
    ".tar": "torch",  # .pth.tar
}

# The entry point that opens a checkpoint: the package that has the configs of networks registers it
_CHECKPOINT_RUNNERS = "samebox.checkpoint_runner"


def load(
    path: str | Path, runtime: str | None = None, device: str = "cpu", detector: str | None = None
) -> Detector:
    """The detector in an ONNX file, an engine or a checkpoint, ready to be called.

    `runtime` is "onnxruntime", "tensorrt" or "torch", by default what the file's suffix says; `device` ("cpu"
    or "cuda") is ONNX Runtime's and PyTorch's, an engine needs its GPU. The network of a checkpoint is the
    choice `detector` of `conf/detector`, by default the one that names the checkpoint's hash; that is to be
    had in samebox's repository alone. Raises SameboxError for a file that is absent or is none of samebox's,
    and for a checkpoint of another network; NotHere where this machine cannot run it.
    """
    runtime = runtime or SUFFIXES.get(Path(path).suffix)
    if detector is not None and runtime != "torch":
        raise SameboxError(f"{path}: says itself what it is; leave out the detector {detector!r}")
    runner: Runner
    # Imported here, so that whoever deploys on ONNX Runtime need not have torch
    if runtime == "onnxruntime":
        from samebox.runners.onnxruntime import OnnxRuntimeRunner

        runner = OnnxRuntimeRunner(path, device)
    elif runtime == "tensorrt":
        from samebox.runners.tensorrt import TensorRTRunner

        runner = TensorRTRunner(Path(path))
    elif runtime == "torch":
        runner = _checkpoint_runner(path)(Path(path), detector, device)
    else:
        raise SameboxError(
            f"{path}: runtime {runtime!r} is none of {', '.join(sorted(set(SUFFIXES.values())))}"
        )
    return Detector(runner.__enter__())


def _checkpoint_runner(path: str | Path) -> Any:
    """The function that opens checkpoints. Raises SameboxError if no installed package registers one."""
    from importlib.metadata import entry_points  # 30 ms that an ONNX file need not wait for

    for entry in entry_points(group=_CHECKPOINT_RUNNERS):
        return entry.load()
    raise SameboxError(f"{path}: a checkpoint needs the pipeline: pip install 'samebox[pipeline]'")
