"""From a decoded image to the canvas of a batch: one resize and one padding rule for all runtimes.

Normalization happens inside the graph (see `samebox.networks.nets.contract`).
"""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from samebox.core.errors import SameboxError
from samebox.core.typed import from_json

Image = NDArray[np.uint8]

MAX_PIXELS = 200_000_000  # of an image file; a decoded pixel takes three bytes

MAX_BATCH = 4096  # images of a fixed batch, for which a single image is copied
MAX_SIDE = 16384  # pixels of a canvas; a rule beyond it would allocate gigabytes for an image


def read_image(path: str | Path) -> Image:
    """The image [H,W,3], RGB 0..255, rotated upright by its EXIF orientation.

    OpenCV decodes it, as in the training of the detectors; grey and 16-bit files become 8-bit colour. Raises
    SameboxError if the file is absent, empty, not an image that OpenCV can decode, or larger than MAX_PIXELS.
    """
    path = Path(path)
    if not path.is_file():
        raise SameboxError(f"{path}: no such image; check the path")
    _check_pixels(path)
    encoded = np.frombuffer(path.read_bytes(), np.uint8)
    try:
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    except cv2.error:  # such as a header that states more pixels than OpenCV allocates
        image = None
    if image is None:
        raise SameboxError(f"{path}: not an image that OpenCV can decode; save it again as JPEG or PNG")
    return np.ascontiguousarray(image[..., ::-1], np.uint8)


def _check_pixels(path: Path) -> None:
    """Raise SameboxError if the header of an image file states more than MAX_PIXELS.

    A file of 109 kB can hold 900 million pixels of one colour, which take 2.7 GB once decoded.
    """
    import PIL.Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # the limit here is our own
            with PIL.Image.open(path) as image:
                width, height = image.size
    except PIL.Image.DecompressionBombError:  # above twice Pillow's own limit
        raise _too_large(path, "") from None
    except (OSError, ValueError, SyntaxError, OverflowError):  # of formats and files that Pillow cannot read
        return
    if width * height > MAX_PIXELS:
        raise _too_large(path, f" of {width}x{height}")


def _too_large(path: Path, size: str) -> SameboxError:
    limit = MAX_PIXELS // 1_000_000
    return SameboxError(f"{path}: an image{size} has more than {limit} million pixels; save it smaller")


def opencv_resize(image: Image, height: int, width: int) -> Image:
    """Bilinear from the four pixels around each point, as in MMDetection."""
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def pillow_resize(image: Image, height: int, width: int) -> Image:
    """Bilinear, by a filter that widens if the image shrinks, as in detectron2 and maskrcnn-benchmark."""
    import PIL.Image  # takes 30 ms, which `samebox.load` need not wait for

    resized = PIL.Image.fromarray(image).resize((width, height), PIL.Image.Resampling.BILINEAR)
    return np.asarray(resized)


FILTERS = {"opencv": opencv_resize, "pillow": pillow_resize}


@dataclass(frozen=True)
class Resize:
    """The size of an image after the resize and before the padding, by one of four rules.

    - `keep_ratio` (MMDetection's rule): the largest size whose long side is at most the larger value of
      `scale` and whose short side is at most the smaller value; the order of `scale` does not matter.
    - `keep_ratio` and `fit`: the largest size within `scale` (width, height), so that any image fits a canvas
      of a fixed size.
    - `keep_ratio` and `short_first` (maskrcnn-benchmark's rule): the short side is computed first, rounded
      half to even; the long side follows from it, truncated.
    - Without `keep_ratio`: exactly `scale` (width, height).

    `filter` computes the pixels, one of FILTERS.
    """

    scale: tuple[int, int]
    keep_ratio: bool = True
    fit: bool = False
    short_first: bool = False
    filter: str = "opencv"

    def __post_init__(self) -> None:
        """Raises SameboxError for an unknown filter and for sides out of range."""
        _check_sides("preprocess.resize.scale", self.scale)
        if self.filter not in FILTERS:
            known = ", ".join(FILTERS)
            raise SameboxError(f"preprocess.resize.filter: {self.filter!r} is not one of {known}")

    def __call__(self, height: int, width: int) -> tuple[int, int]:
        """The new (height, width): except with `short_first`, rounded half up. Each side is at least 1."""
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
        short, long, longest = min(height, width), max(height, width), max(self.scale)
        new_short = min(self.scale)
        if long / short * new_short > longest:
            new_short = max(round(longest * short / long), 1)
        if short == new_short:
            return height, width
        new_long = int(new_short * long / short)
        return (new_long, new_short) if width < height else (new_short, new_long)


@dataclass(frozen=True)
class Batch:
    """The inputs of a network, and the sizes that scale its outputs back.

    `images` [B,3,H,W] float32 RGB 0..255, each image at the top left of its canvas, 0 elsewhere; `sizes`
    [B,2] int64: height and width of each image on the canvas; `originals` [B,2] int64: height and width
    before the resize.
    """

    images: NDArray[np.float32]
    sizes: NDArray[np.int64]
    originals: NDArray[np.int64]

    def inputs(self) -> dict[str, NDArray[Any]]:
        """The arrays by the names of every graph's inputs."""
        return {"images": self.images, "sizes": self.sizes}


@dataclass(frozen=True)
class Preprocess:
    """Resize, then pad at the right and the bottom.

    Each side of the canvas is the least multiple of `divisor`, minus `less`, that holds every image of the
    batch; or the canvas is exactly `canvas` (height, width). Without `resize` images keep their size.
    """

    resize: Resize | None
    divisor: int = 32
    canvas: tuple[int, int] | None = None
    less: int = 0

    def __post_init__(self) -> None:
        """Raises SameboxError for sides out of range."""
        _check_sides("preprocess.divisor", (self.divisor,))
        if self.canvas is not None:
            _check_sides("preprocess.canvas", self.canvas)
        if not 0 <= self.less < self.divisor:
            raise SameboxError(
                f"preprocess.less: {self.less} is not from 0 to below the divisor {self.divisor}"
            )

    def on_canvas(self, height: int, width: int) -> "Preprocess":
        """The rule for a network with a fixed canvas: images are resized to fit into height × width."""
        if self.resize is None:
            return replace(self, canvas=(height, width))
        resize = replace(self.resize, scale=(width, height), fit=self.resize.keep_ratio)
        return replace(self, resize=resize, canvas=(height, width))

    def __call__(self, images: Sequence[Image], canvas: tuple[int, int] | None = None) -> Batch:
        """One batch of images [H,W,3] RGB uint8 of any sizes.

        `canvas` (height, width) replaces the canvas of the rule. Raises SameboxError for an array that is not
        such an image, and if an image does not fit on the canvas.
        """
        originals = [check_image(image).shape[:2] for image in images]
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
        height, width = (self.padded_side(max(side)) for side in zip(*sizes, strict=True))
        return height, width

    def padded_side(self, side: int) -> int:
        """The side of the smallest canvas that holds an image of `side`."""
        return -(-(side + self.less) // self.divisor) * self.divisor - self.less

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the inverse of `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocess":
        """The rule from a config, or from what `to_dict` returned. Raises SameboxError for other values."""
        try:
            return from_json(cls, values)
        except ValueError as error:
            raise SameboxError(f"preprocess: {error}; see docs/onnx-file.md") from None


def _check_sides(key: str, sides: tuple[int, ...]) -> None:
    if not all(1 <= side <= MAX_SIDE for side in sides):
        raise SameboxError(f"{key}: {'x'.join(map(str, sides))} is not within 1..{MAX_SIDE}")


def check_image(image: Image) -> Image:
    """`image` itself. Raises SameboxError unless it is [H,W,3] uint8 with at least one pixel."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise SameboxError(f"an image is an HxWx3 uint8 RGB array, not {image.dtype} of shape {image.shape}")
    if image.size == 0:
        raise SameboxError(f"an image of shape {image.shape} has no pixels")
    return image
