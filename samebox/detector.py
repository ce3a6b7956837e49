"""A detector: images in, detections out, in any runtime."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from samebox.core.errors import SameboxError
from samebox.postprocess.detections import Detections, detections_from_outputs
from samebox.postprocess.outputs import check_outputs
from samebox.record.preprocess import Batch, Image, read_image
from samebox.record.spec import Spec
from samebox.runners.protocol import Runner


class Detector:
    """Pre-processing, a runner and post-processing, configured by the record of the form that it runs.

    An image is a path or an array [H,W,3] RGB uint8. A call takes one image, `batch` takes several of any
    sizes. A context manager; `close`, or the end of the block, closes the runner.
    """

    def __init__(self, runner: Runner) -> None:
        """`runner` has been entered. Raises SameboxError if it returns head outputs instead of detections."""
        self.runner = runner
        self.spec = Spec.from_metadata(runner.metadata, runner.name)
        if not self.spec.postprocess:
            raise SameboxError(
                f"{runner.name}: returns head outputs, not detections; export it with export.postprocess=true"
            )

    def __enter__(self) -> "Detector":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.runner.__exit__(kind, error, trace)

    def close(self) -> None:
        """Close the runner. Closing twice is allowed."""
        self.runner.__exit__(None, None, None)

    def __call__(self, image: str | Path | Image) -> Detections:
        """The detections of one image. Raises SameboxError if it is no image or does not fit the canvas."""
        return self.batch([image])[0]

    def batch(
        self, images: Sequence[str | Path | Image], canvas: tuple[int, int] | None = None
    ) -> list[Detections]:
        """The detections of each image, all run as one batch on one canvas.

        `canvas` (height, width) replaces the smallest canvas that holds them. A form with a fixed batch runs
        as often as needed. Raises SameboxError as a call does.
        """
        size = self.runner.batch or max(len(images), 1)
        detections: list[Detections] = []
        for start in range(0, len(images), size):
            batch = self.preprocess([_pixels(image) for image in images[start : start + size]], canvas)
            detections += self.postprocess(self.runner(padded_batch(batch, size).inputs()), batch)
        return detections

    def preprocess(self, images: Sequence[Image], canvas: tuple[int, int] | None = None) -> Batch:
        """The images as one batch, resized and padded by the rule in the record."""
        return self.spec.preprocess(images, canvas)

    def postprocess(self, outputs: Mapping[str, NDArray[Any]], batch: Batch) -> list[Detections]:
        """The detections of each image of `batch`, from the outputs for it, padded or not.

        Raises SameboxError for outputs of other names, types or shapes than a detector's.
        """
        count = len(batch.sizes)
        check_outputs(outputs, count, self.runner.name)
        unpadded = {name: output[:count] for name, output in outputs.items()}
        return detections_from_outputs(unpadded, batch, self.spec.class_names, self.spec.decoding)


def _pixels(image: str | Path | Image) -> Image:
    return read_image(image) if isinstance(image, str | Path) else image


def padded_batch(batch: Batch, size: int) -> Batch:
    """`batch` padded with copies of its first image to `size` images, for a form with a fixed batch."""
    padding = size - len(batch.sizes)
    if padding <= 0:
        return batch
    index = [*range(len(batch.sizes)), *[0] * padding]
    return Batch(batch.images[index], batch.sizes[index], batch.originals[index])


TIME_LIMIT = 60.0  # seconds per image; the slowest network takes 10 s on a CPU with two cores

# Suffix of a file → its runtime by default
SUFFIXES = {
    ".onnx": "onnxruntime",
    ".engine": "tensorrt",
    ".pth": "torch",
    ".pkl": "torch",
    ".tar": "torch",  # .pth.tar
}

# The entry point that opens a checkpoint. The package with the configs of the networks registers it.
_CHECKPOINT_RUNNERS = "samebox.checkpoint_runner"


def load(
    path: str | Path,
    runtime: str | None = None,
    device: str = "cpu",
    detector: str | None = None,
    time_limit: float | None = TIME_LIMIT,
) -> Detector:
    """The detector in an ONNX file, an engine or a checkpoint.

    `runtime` is "onnxruntime", "tensorrt" or "torch"; by default it follows from the suffix. `device` ("cpu"
    or "cuda") is for ONNX Runtime and PyTorch; an engine runs on the GPU it was built for. `detector` is the
    choice of `conf/detector` that describes a checkpoint's network, by default the one with the checkpoint's
    hash; checkpoints need the extra `pipeline`. An ONNX file is stopped after `time_limit` seconds per image,
    because the loop of an untrusted graph may be endless; None sets no limit. Raises SameboxError if the file
    does not exist or samebox did not write it, or if a checkpoint does not fit the network; NotHere if this
    machine cannot run it.
    """
    runtime = runtime or SUFFIXES.get(Path(path).suffix)
    if runtime is None and Path(path).suffix == ".safetensors":
        raise SameboxError(
            f"{path}: samebox does not read safetensors files yet; save its tensors with torch.save"
        )
    if runtime is None:
        known = ", ".join(SUFFIXES)
        raise SameboxError(f"{path}: its suffix is not one of {known}; rename it or name its runtime")
    if detector is not None and runtime != "torch":
        raise SameboxError(f"{path}: its record describes the detector; leave out the detector {detector!r}")
    runner: Runner
    # Each runtime imports its own package, and none of the others
    if runtime == "onnxruntime":
        from samebox.runners.onnxruntime import OnnxRuntimeRunner

        runner = OnnxRuntimeRunner(path, device, time_limit=time_limit)
    elif runtime == "tensorrt":
        from samebox.runners.tensorrt import TensorRTRunner

        runner = TensorRTRunner(Path(path))
    elif runtime == "torch":
        runner = _checkpoint_runner(path)(Path(path), detector, device)
    else:
        runtimes = ", ".join(sorted(set(SUFFIXES.values())))
        raise SameboxError(f"{path}: runtime {runtime!r} is not one of {runtimes}")
    return Detector(runner.__enter__())


def _checkpoint_runner(path: str | Path) -> Any:
    """The function that opens checkpoints. Raises SameboxError if its packages are not installed."""
    from importlib.metadata import entry_points  # takes 30 ms, and only checkpoints need it

    for entry in entry_points(group=_CHECKPOINT_RUNNERS):
        with suppress(ModuleNotFoundError):
            return entry.load()
    raise SameboxError(f"{path}: a checkpoint needs the pipeline; run pip install 'samebox[pipeline]'")
