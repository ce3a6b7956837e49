"""Reading frames from video files and cameras, and writing frames to MP4 files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from samebox.core.errors import SameboxError
from samebox.core.files import atomic_write, existing
from samebox.core.text import file_stem
from samebox.record.preprocess import Image

SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})

_UNKNOWN_RATE = 25.0  # frames per second of a camera that does not report its rate


class Footage:
    """The frames of a video file or of a camera, each [H,W,3] RGB and upright.

    A context manager, to be iterated once. `source` is a file or the number of a camera. `name` is for
    messages, `stem` for the names of output files. Once entered: `rate` in frames per second, `size` (height,
    width) of the first frame, and `frame_count`, the number of frames that the file reports, None if it does
    not. Raises SameboxError on entry if the file does not exist or no frame can be read.
    """

    def __init__(self, source: Path | int) -> None:
        self.source = source
        self.name = f"camera:{source}" if isinstance(source, int) else str(source)
        self.stem = f"camera_{source}" if isinstance(source, int) else file_stem(source.stem)

    def __enter__(self) -> "Footage":
        source = self.source if isinstance(self.source, int) else _opencv_path(existing(self.source))
        self._capture = cv2.VideoCapture(source)
        success, self._first = self._capture.read()
        if not success:
            self._capture.release()
            raise SameboxError(f"{self.name}: {self._reason()}")
        self.size = self._first.shape[:2]
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if rate > 0 else _UNKNOWN_RATE
        self.frame_count = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0) or None
        return self

    def _reason(self) -> str:
        if isinstance(self.source, int):
            return "no camera that OpenCV can read; connect it, or give another number"
        return "not a video that OpenCV can read; save it as MP4 again"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._capture.release()

    def __iter__(self) -> Iterator[Image]:
        success, frame = True, self._first
        while success:
            yield np.ascontiguousarray(frame[..., ::-1])
            success, frame = self._capture.read()

    def __str__(self) -> str:
        return self.name


@contextmanager
def video_writer(path: Path, rate: float, size: tuple[int, int]) -> Iterator[Callable[[Image], None]]:
    """Yields a function that adds a frame [H,W,3] RGB to the MP4 file, which is complete after the block.

    `rate` is in frames per second, `size` (height, width) that of every frame. MPEG-4 needs even sides: if a
    side is odd, its last row or column is repeated. Raises SameboxError for a frame of another size, and if a
    frame could not be written.
    """
    height, width = size
    below, right = height % 2, width % 2
    added = 0
    with atomic_write(path) as aside:
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")  # OpenCV's wheels encode no H.264
        writer = cv2.VideoWriter(_opencv_path(aside), fourcc, rate, (width + right, height + below))
        if not writer.isOpened():
            raise SameboxError(f"{path}: OpenCV cannot write an MP4 of {width}x{height} at {rate:g} frames/s")

        def add(frame: Image) -> None:
            nonlocal added
            if frame.shape[:2] != size:
                raise SameboxError(
                    f"{path}: frame {added} is {frame.shape[1]}x{frame.shape[0]}, those before it "
                    f"{width}x{height}; cut the video there"
                )
            even = cv2.copyMakeBorder(frame, 0, below, 0, right, cv2.BORDER_REPLICATE)
            writer.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))
            added += 1

        try:
            yield add
        finally:
            writer.release()
        kept = _frames(aside)  # counted in the file, because OpenCV reports no failure
        if kept != added:
            raise SameboxError(f"{path}: OpenCV wrote {kept} of {added} frames; is the disk full?")


def _opencv_path(path: Path) -> str:
    """The path for OpenCV, which takes no other encoding than UTF-8. Absolute: no scheme of an address."""
    try:
        return path.absolute().as_posix().encode().decode()
    except UnicodeEncodeError:
        raise SameboxError(f"{path}: its name is not UTF-8; rename it") from None


def _frames(path: Path) -> int:
    capture = cv2.VideoCapture(_opencv_path(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return max(count, 0)
