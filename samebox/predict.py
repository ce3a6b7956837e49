"""Pictures and videos with their detections drawn, and the detections as COCO results.

python -m samebox.predict model.(onnx|engine|pth) INPUT… --out DIR
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
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from samebox.coco.panoptic import Category, CategorySet, PanopticResults
from samebox.coco.results import results_from_detections, results_writer
from samebox.core.errors import NotHere, SameboxError
from samebox.core.files import atomic_write
from samebox.detector import Detector, load
from samebox.media.drawing import draw
from samebox.media.folders import SUFFIXES, images_in
from samebox.media.videos import SUFFIXES as VIDEOS
from samebox.media.videos import Footage, video_writer
from samebox.record.preprocess import Image, read_image


@dataclass
class Done:
    """How many inputs were run, why others failed, by their names, and a line on each video written."""

    count: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    videos: list[str] = field(default_factory=list)


def predict(
    detector: Detector,
    inputs: Sequence[Path | Footage],
    out: Path,
    threshold: float,
    frames: int | None = None,
    stop: Event | None = None,
) -> Done:
    """Write a picture for each image, a video for each footage and `detections.json` for all to `out`.

    The detections are COCO results: image_id counts images and frames from 1 in their order, category_id is
    the label counted from 1, file_name the input's name, frame counts a footage's own from 0, segmentation is
    the mask where the detector gives any. All are written, those from `threshold` on drawn. The segments of a
    detector that gives them are in `panoptic.json` and the folder `panoptic`, as COCO has them; stuff is
    counted on after the labels.

    Of each footage at most `frames` are run. Once `stop` is set the run ends after the image or frame at
    hand, and what was done until then is there, whole. Raises SameboxError where a video would be written
    over an input or another.
    """
    _check_targets(inputs, out)
    stop, done = stop or Event(), Done()
    with results_writer(out / "detections.json") as add, _bars() as bars:
        work = _Work(detector, out, threshold, add)
        for one in bars.track(inputs, description="inputs"):
            try:
                if isinstance(one, Footage):
                    done.videos.append(work.video(one, frames, stop, bars))
                else:
                    work.picture(one)
                done.count += 1
            except SameboxError as error:
                done.failed[str(one)] = str(error)
            if stop.is_set():
                break
    if work.segments.results:
        work.segments.write(out / "panoptic.json", out / "panoptic")
    return done


class _Work:
    """A detector, and where what it finds goes; `image_id` is that of the latest image."""

    def __init__(
        self, detector: Detector, out: Path, threshold: float, add: Callable[[list[dict[str, Any]]], None]
    ) -> None:
        self.detector, self.out, self.threshold, self.add = detector, out, threshold, add
        self.categories = range(1, len(detector.spec.class_names) + 1)
        self.segments = PanopticResults(_categories(detector))
        self.image_id = 0

    def picture(self, path: Path) -> None:
        """Run one image file."""
        self.image_id += 1
        picture = self.drawn(read_image(path), str(path))
        write_picture(self.out / f"{self.image_id:04d}_{path.stem}.jpg", picture)

    def video(self, footage: Footage, frames: int | None, stop: Event, bars: Progress) -> str:
        """Run a video or camera to its end, to `frames` of them or to the `stop`; what came of it."""
        target = _target(footage, self.out)
        with footage, video_writer(target, footage.rate, footage.size) as write:
            task = bars.add_task(footage.name, total=frames or footage.frame_count)
            for number, frame in enumerate(islice(footage, frames)):
                self.image_id += 1
                write(self.drawn(frame, footage.name, number))
                bars.advance(task)
                if stop.is_set():
                    break
        count, expected = number + 1, footage.frame_count or 0
        return f"{target}: {count}{f' of {expected}' if count < expected else ''} frames"

    def drawn(self, image: Image, name: str, frame: int | None = None) -> Image:
        """The image with its detections, which are kept as results of the file `name`, or a frame of it."""
        found = self.detector(image)
        results = results_from_detections(self.image_id, found, self.categories, file_name=name)
        self.add(results if frame is None else [result | {"frame": frame} for result in results])
        if found.panoptic is not None:
            self.segments.add(self.image_id, found.panoptic)
        return draw(image, found, self.threshold)


def _categories(detector: Detector) -> CategorySet:
    """The detector's classes, of objects and then of stuff, counted from 1."""
    rule = detector.spec.decoding.panoptic
    things, stuff = detector.spec.class_names, rule.stuff_class_names if rule else ()
    names = enumerate([*things, *stuff], start=1)
    return CategorySet(
        detector.runner.name, [Category(number, name, number <= len(things)) for number, name in names]
    )


def _target(footage: Footage, out: Path) -> Path:
    return out / f"{footage.stem}.mp4"


def _check_targets(inputs: Sequence[Path | Footage], out: Path) -> None:
    """Raise SameboxError for a video that would be written over an input or over another."""
    footages = [one for one in inputs if isinstance(one, Footage)]
    taken = {one.source.resolve() for one in footages if isinstance(one.source, Path)}
    for one in footages:
        target = _target(one, out)
        if target.resolve() in taken:
            raise SameboxError(f"{one.name}: {target} is taken by another video; give it another --out")
        taken.add(target.resolve())


@contextmanager
def _bars() -> Iterator[Progress]:
    """Progress bars while the block lasts; none where nobody looks."""
    name = TextColumn("{task.description}", markup=False)  # a file's may have brackets
    columns = (name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield bars


def write_picture(path: Path, image: Image) -> None:
    """Write an image [H,W,3] RGB to a JPEG file, whole or not at all."""
    with atomic_write(path) as aside:
        cv2.imwrite(str(aside), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def inputs_of(asked: Sequence[str]) -> list[Path | Footage]:
    """What each text stands for: an image, the images of a folder by name, a video, `camera` or `camera:1`.

    Raises SameboxError for a folder without images.
    """
    found: list[Path | Footage] = []
    for text in asked:
        path, camera = Path(text), re.fullmatch(r"camera(?::(\d+))?", text)
        if path.is_dir():
            found += _images(path)
        elif camera:
            found.append(Footage(int(camera[1] or 0)))
        else:
            found.append(Footage(path) if path.suffix.lower() in VIDEOS else path)
    return found


def _images(folder: Path) -> list[Path]:
    images = images_in(folder)
    if not images:
        raise SameboxError(f"{folder}: a folder without images ({', '.join(sorted(SUFFIXES))}); give another")
    return images


@contextmanager
def ctrl_c() -> Iterator[Event]:
    """An event that Ctrl-C sets while the block lasts; pressed again, it interrupts as ever."""
    pressed = Event()

    def press(*_: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m samebox.predict", description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="an ONNX file or an engine made by samebox, or a checkpoint")
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="an image, a folder of images, a video, camera or camera:1"
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder that is written to")
    parser.add_argument("--threshold", type=float, default=0.3, help="least score that is drawn (0.3)")
    parser.add_argument(
        "--frames", type=_positive, help="most of a video or camera (until it ends, or Ctrl-C)"
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="of ONNX Runtime, PyTorch")
    parser.add_argument("--detector", help="a checkpoint's in conf/detector (the one with its SHA-256)")
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 up")
    return int(text)


def main() -> int:
    """Predict for the command line; 1 where an input failed or was left out, or nothing could be run."""
    asked = arguments()
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # an input that does not open is told of here
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        inputs = inputs_of(asked.inputs)
        with load(asked.model, device=asked.device, detector=asked.detector) as detector, ctrl_c() as pressed:
            done = predict(detector, inputs, asked.out, asked.threshold, asked.frames, pressed)
    except (SameboxError, NotHere) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for reason in done.failed.values():
        print(f"error: {reason}", file=sys.stderr)
    print("\n".join([*done.videos, f"{done.count} of {len(inputs)} done: {asked.out}"]))
    return 0 if done.count == len(inputs) else 1


if __name__ == "__main__":
    sys.exit(main())
