"""Draw detections on images and videos, and write them as COCO results.

samebox predict MODEL INPUT… --out FOLDER
"""

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

import cv2

from samebox.coco.panoptic import PanopticResults
from samebox.coco.result_ids import ResultIds, annotated_ids, recorded_ids
from samebox.coco.results import results_from_detections, results_writer
from samebox.core.errors import NotHere, SameboxError
from samebox.core.files import atomic_write
from samebox.core.progress import progress
from samebox.core.text import file_stem, print_text
from samebox.detector import TIME_LIMIT, Detector, load
from samebox.media.drawing import draw
from samebox.media.folders import SUFFIXES, images_in
from samebox.media.videos import SUFFIXES as VIDEO_SUFFIXES
from samebox.media.videos import Footage, video_writer
from samebox.record.preprocess import Image, read_image

EXAMPLES = """
examples:
  samebox predict model.onnx photos/ --out drawn
  samebox predict model.engine clip.mov camera --out drawn --frames 500
  samebox predict model.onnx val2017/ --out drawn --categories instances_val2017.json
"""


@dataclass
class Summary:
    """How many inputs are done, the errors of the others by their names, and a line about each video."""

    done: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    videos: list[str] = field(default_factory=list)


def predict(
    detector: Detector,
    inputs: Sequence[Path | Footage],
    out: Path,
    threshold: float,
    frames: int | None = None,
    ids: ResultIds | None = None,
    stop: Event | None = None,
) -> Summary:
    """Write a picture for each image, a video for each footage and `detections.json` for all to `out`.

    The detections are COCO results with the image and category ids of `ids`, by default `recorded_ids`;
    frames count as images. `file_name` is the name of the input, `frame` the number of a footage's frame from
    0, and `segmentation` the mask if the detector has masks. All detections are written; those with a score
    of `threshold` or more are drawn. Panoptic segments are written in COCO's format, to `panoptic.json` and
    the folder `panoptic`.

    At most `frames` frames of each footage are run. If `stop` is set, the run ends after the current image or
    frame, and all files are complete up to there. Raises SameboxError if a video would overwrite an input or
    another video.
    """
    _check_targets(inputs, out)
    ids, stop, summary = ids or recorded_ids(detector.spec), stop or Event(), Summary()
    with results_writer(out / "detections.json") as add, progress("inputs", len(inputs)) as task:
        run = _Run(detector, out, threshold, ids, add)
        for source in inputs:
            try:
                if isinstance(source, Footage):
                    summary.videos.append(run.video(source, frames, stop))
                else:
                    run.picture(source)
                summary.done += 1
            except SameboxError as error:
                summary.errors[str(source)] = str(error)
            task.advance()
            if stop.is_set():
                break
    if run.segments.results:
        run.segments.write(out / "panoptic.json", out / "panoptic")
    return summary


class _Run:
    """Runs a detector on one input after another, and writes its detections.

    `count` is the number of images and frames so far.
    """

    def __init__(
        self,
        detector: Detector,
        out: Path,
        threshold: float,
        ids: ResultIds,
        add: Callable[[list[dict[str, Any]]], None],
    ) -> None:
        self.detector, self.out, self.threshold, self.ids, self.add = detector, out, threshold, ids, add
        self.segments = PanopticResults(ids.categories)
        self.count = 0

    def picture(self, path: Path) -> None:
        """Run one image file."""
        self.count += 1
        picture = self.drawn(read_image(path), str(path))
        write_picture(self.out / f"{self.count:04d}_{file_stem(path.stem)}.jpg", picture)

    def video(self, footage: Footage, frames: int | None, stop: Event) -> str:
        """Run a video or camera to its end, for `frames` frames or until `stop`; a line about the result."""
        target = _target(footage, self.out)
        with (
            footage,
            video_writer(target, footage.rate, footage.size) as write,
            progress(footage.name, frames or footage.frame_count, "frames") as task,
        ):
            for number, frame in enumerate(islice(footage, frames)):
                self.count += 1
                write(self.drawn(frame, footage.name, number))
                task.advance()
                if stop.is_set():
                    break
        count, expected = number + 1, footage.frame_count or 0
        return f"{target}: {count}{f' of {expected}' if count < expected else ''} frames"

    def drawn(self, image: Image, name: str, frame: int | None = None) -> Image:
        """The image with its detections, which are added to the results of the file `name`."""
        image_id = self.ids.image_id(name, self.count)
        detections = self.detector(image)
        results = results_from_detections(image_id, detections, self.ids.category_ids, file_name=name)
        self.add(results if frame is None else [result | {"frame": frame} for result in results])
        if detections.panoptic is not None:
            self.segments.add(image_id, detections.panoptic)
        return draw(image, detections, self.threshold)


def _target(footage: Footage, out: Path) -> Path:
    return out / f"{footage.stem}.mp4"


def _check_targets(inputs: Sequence[Path | Footage], out: Path) -> None:
    """Raise SameboxError if a video would overwrite an input or another video."""
    footages = [source for source in inputs if isinstance(source, Footage)]
    taken = {one.source.resolve() for one in footages if isinstance(one.source, Path)}
    for footage in footages:
        target = _target(footage, out)
        if target.resolve() in taken:
            raise SameboxError(f"{footage.name}: would overwrite the video {target}; give another --out")
        taken.add(target.resolve())


def write_picture(path: Path, image: Image) -> None:
    """Write an image [H,W,3] RGB to a JPEG file, completely or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())


def parse_inputs(texts: Sequence[str]) -> list[Path | Footage]:
    """The inputs: an image, the images of a folder by name, a video, `camera` or `camera:1`.

    Raises SameboxError for a folder without images.
    """
    inputs: list[Path | Footage] = []
    for text in texts:
        path, camera = Path(text), re.fullmatch(r"camera(?::(\d+))?", text)
        if path.is_dir():
            inputs += _images(path)
        elif camera:
            inputs.append(Footage(int(camera[1] or 0)))
        else:
            inputs.append(Footage(path) if path.suffix.lower() in VIDEO_SUFFIXES else path)
    return inputs


def _images(folder: Path) -> list[Path]:
    images = images_in(folder)
    if not images:
        raise SameboxError(f"{folder}: has no images ({', '.join(sorted(SUFFIXES))}); give another folder")
    return images


@contextmanager
def stop_on_ctrl_c() -> Iterator[Event]:
    """An event that the first Ctrl-C within the block sets. The second one interrupts as usual."""
    pressed = Event()

    def press(*_: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def parse_arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="samebox predict",
        description=__doc__.splitlines()[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="an ONNX file or an engine of samebox, or a checkpoint")
    add("inputs", nargs="+", metavar="INPUT", help="an image, a folder of images, a video, or camera:0")
    add("--out", type=Path, required=True, metavar="FOLDER", help="for pictures, videos and detections.json")
    add("--threshold", type=float, default=0.3, metavar="T", help="least score that is drawn (default: 0.3)")
    add("--device", default="cpu", choices=("cpu", "cuda"), help="of ONNX Runtime or PyTorch (default: cpu)")
    add(
        "--time-limit",
        type=_positive,
        default=int(TIME_LIMIT),
        metavar="S",
        help=f"seconds per image after which an ONNX file is stopped (default: {TIME_LIMIT:.0f})",
    )
    add(
        "--detector",
        metavar="NAME",
        help="the choice of conf/detector for a checkpoint (default: the one with its SHA-256)",
    )
    add(
        "--frames",
        type=_positive,
        metavar="N",
        help="frames of a video or camera at most (default: all, until Ctrl-C)",
    )
    add(
        "--categories",
        type=Path,
        metavar="ANNOTATIONS.json",
        help="COCO instances or panoptic file whose image ids and category ids detections.json takes "
        "(default: category ids from the record in MODEL, else counted from 1; image ids counted from 1)",
    )
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)


def main() -> int:
    """Predict for the command line. 1 if an input failed or was skipped, or nothing could be run."""
    options = parse_arguments()
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # main prints why an input cannot be opened
    # A video may be a playlist, which names other files and addresses
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "protocol_whitelist;file")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        inputs = parse_inputs(options.inputs)
        with load(
            options.model,
            device=options.device,
            detector=options.detector,
            time_limit=options.time_limit,
        ) as detector:
            ids = result_ids(options.categories, detector)
            with stop_on_ctrl_c() as stop:
                summary = predict(detector, inputs, options.out, options.threshold, options.frames, ids, stop)
    except (SameboxError, NotHere) as error:
        print_text(f"error: {error}", sys.stderr)
        return 1
    for message in summary.errors.values():
        print_text(f"error: {message}", sys.stderr)
    print_text(
        "\n".join([*summary.videos, ids.source, f"{summary.done} of {len(inputs)} done: {options.out}"])
    )
    return 0 if summary.done == len(inputs) else 1


def result_ids(annotations: Path | None, detector: Detector) -> ResultIds:
    """The ids in the annotations if they are given, else those in the record or counted."""
    return annotated_ids(annotations, detector.spec) if annotations else recorded_ids(detector.spec)


if __name__ == "__main__":
    sys.exit(main())
