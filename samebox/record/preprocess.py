"""From a decoded image to the canvas that a network sees: one resize and one padding rule for all runtimes.

Normalisation is no part of it: it happens inside the graph (see `samebox.networks.nets.contract`).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from samebox.core.errors import SameboxError

Image = NDArray[np.uint8]


def read_image(path: str | Path) -> Image:
    """The image [H,W,3], RGB 0..255, upright as its EXIF orientation says.

    OpenCV decodes it as the detectors' own training did; grey and 16-bit files become 8-bit colour.
    Raises SameboxError where the file is absent, empty or not an image that OpenCV decodes.
    """
    path = Path(path)
    if not path.is_file():
        raise SameboxError(f"{path}: no such image; check the path")
    encoded = np.frombuffer(path.read_bytes(), np.uint8)
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    if image is None:
        raise SameboxError(f"{path}: not an image that OpenCV can decode; save it anew as JPEG or PNG")
    return np.ascontiguousarray(image[..., ::-1], np.uint8)


def bilinear(image: Image, height: int, width: int) -> Image:
    """OpenCV's: from the four pixels around each point, as MMDetection has it."""
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def widened(image: Image, height: int, width: int) -> Image:
    """Pillow's: a triangle that covers more pixels when it shrinks an image, as Detectron's heirs have it."""
    import PIL.Image  # 30 ms, and only detectron2's and maskrcnn-benchmark's detectors need it

    resized = PIL.Image.fromarray(image).resize((width, height), PIL.Image.Resampling.BILINEAR)
    return np.asarray(resized)


FILTERS = {"opencv": bilinear, "pillow": widened}


@dataclass(frozen=True)
class Resize:
    """The size that an image takes before it is padded.

    With `keep_ratio`, the largest size whose long side is within the larger of `scale` and whose short
    side is within the smaller: MMDetection's rule, to which the order of `scale` means nothing. With
    `fit`, width and height stay within `scale` (width, height) instead, so that any image fits a
    canvas of a fixed size. Without `keep_ratio`, exactly `scale`.

    With `short_first`, as in maskrcnn-benchmark, the short side is settled first, rounded half to even, and
    the long one follows from it, cut to whole pixels. `filter`: what pixels come from, one of FILTERS.
    """

    scale: tuple[int, int]
    keep_ratio: bool = True
    fit: bool = False
    short_first: bool = False
    filter: str = "opencv"

    def __post_init__(self) -> None:
        """Raises SameboxError for an unknown filter."""
        if self.filter not in FILTERS:
            known = ", ".join(FILTERS)
            raise SameboxError(f"preprocess.resize.filter: {self.filter!r} is none of {known}")

    def __call__(self, height: int, width: int) -> tuple[int, int]:
        """The new (height, width), each side rounded half up and at least one pixel."""
        if not self.keep_ratio:
            return self.scale[1], self.scale[0]
        if self.short_first and not self.fit:
            return self._short_first(height, width)
        if self.fit:
            factor = min(self.scale[0] / width, self.scale[1] / height)
        else:
            factor = min(
                max(self.scale) / max(height, width),
                min(self.scale) / min(height, width),
            )
        return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)

    def _short_first(self, height: int, width: int) -> tuple[int, int]:
        short, long, most = min(height, width), max(height, width), max(self.scale)
        side = min(self.scale)
        if long / short * side > most:
            side = max(round(most * short / long), 1)
        if short == side:
            return height, width
        other = int(side * long / short)
        return (other, side) if width < height else (side, other)


@dataclass(frozen=True)
class Batch:
    """What a network is asked, and what is needed to bring its answer back.

    `images` [B,3,H,W] float32 RGB 0..255, zero outside each image; `sizes` [B,2] int64, the valid height
    and width on the canvas; `originals` [B,2] int64, height and width before the resize.
    """

    images: NDArray[np.float32]
    sizes: NDArray[np.int64]
    originals: NDArray[np.int64]

    def inputs(self) -> dict[str, NDArray[Any]]:
        """The arrays under the names that every network's graph gives them."""
        return {"images": self.images, "sizes": self.sizes}


@dataclass(frozen=True)
class Preprocess:
    """Resize, then pad at the right and the bottom.

    The canvas is the largest height and width of the batch, rounded up to `less` under a multiple of
    `divisor`; or exactly `canvas` (height, width), into which every image must fit. Without `resize` images
    stay as they are.
    """

    resize: Resize | None
    divisor: int = 32
    canvas: tuple[int, int] | None = None
    less: int = 0

    def __post_init__(self) -> None:
        """Raises SameboxError for a divisor below 1."""
        if self.divisor < 1:
            raise SameboxError(f"preprocess.divisor: {self.divisor}: give a number from 1 up")

    def onto(self, height: int, width: int) -> "Preprocess":
        """The same rule for a network whose canvas is fixed: images are fitted into height × width."""
        if self.resize is None:
            return replace(self, canvas=(height, width))
        resize = replace(self.resize, scale=(width, height), fit=self.resize.keep_ratio)
        return replace(self, resize=resize, canvas=(height, width))

    def __call__(self, images: Sequence[Image], canvas: tuple[int, int] | None = None) -> Batch:
        """One batch of images [H,W,3] RGB uint8 of any sizes.

        `canvas` (height, width) asks for a larger canvas than the batch needs. Raises SameboxError
        for an array that is no such image, and where an image does not fit the canvas.
        """
        originals = [checked(image).shape[:2] for image in images]
        sizes = [self.resize(*original) if self.resize else original for original in originals]
        height, width = canvas or self.canvas or self._smallest_canvas(sizes)
        arrays = np.zeros((len(images), 3, height, width), np.float32)
        for array, image, (h, w) in zip(arrays, images, sizes, strict=True):
            if h > height or w > width:
                raise SameboxError(
                    f"an image of {h}x{w} after the resize exceeds the canvas {height}x{width}"
                )
            resized = FILTERS[self.resize.filter](image, h, w) if self.resize else image
            array[:, :h, :w] = resized.transpose(2, 0, 1)
        return Batch(arrays, np.array(sizes, np.int64), np.array(originals, np.int64))

    def _smallest_canvas(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        height, width = (self.rounded(max(side)) for side in zip(*sizes, strict=True))
        return height, width

    def rounded(self, side: int) -> int:
        """The side of the smallest canvas for an image of `side`."""
        return -(-(side + self.less) // self.divisor) * self.divisor - self.less

    def to_dict(self) -> dict[str, Any]:
        """Plain values, which `from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocess":
        """The rule that `to_dict` wrote."""
        scale = values["resize"] and tuple(values["resize"]["scale"])
        resize = values["resize"] and Resize(**{**values["resize"], "scale": scale})
        canvas = values["canvas"] and tuple(values["canvas"])
        return cls(resize, values["divisor"], canvas, values.get("less", 0))


def checked(image: Image) -> Image:
    """`image`, or a SameboxError that says how it departs from [H,W,3] RGB uint8 with a pixel in it."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise SameboxError(f"an image is an HxWx3 uint8 RGB array, not {image.dtype} of shape {image.shape}")
    if image.size == 0:
        raise SameboxError(f"an image of shape {image.shape} holds no pixel")
    return image
