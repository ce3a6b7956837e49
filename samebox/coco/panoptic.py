"""COCO's panoptic format, for the ground truth and for results.

A JSON file lists the segments of each image. Each image has a PNG file in which the colour of a pixel is the
id of its segment, R + 256 G + 256² B; 0 means no segment (void).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from samebox.coco.checking import check_lists
from samebox.core.errors import SameboxError
from samebox.core.files import atomic_write, existing, read_json, write_json
from samebox.postprocess.panoptic import Panoptic, Segment

_KEYS = {
    "annotations": ("image_id", "file_name", "segments_info"),
    "categories": ("id", "name", "isthing"),
}


@dataclass(frozen=True)
class Category:
    """A class of segments, with its name in the data set."""

    id: int
    name: str
    is_thing: bool


@dataclass(frozen=True)
class SegmentMap:
    """The segments of an image from its PNG file and its entry: `ids` [H,W] int64, and the category of each
    id.

    `crowds` are the ids that stand for a group of objects.
    """

    ids: NDArray[np.int64]
    categories: Mapping[int, int]
    crowds: frozenset[int] = frozenset()


class CategorySet:
    """The classes of segments, `categories` ordered by id. `source` is the file that errors name."""

    def __init__(self, source: str | Path, categories: Iterable[Category]) -> None:
        self._source = source
        self.categories = sorted(categories, key=lambda category: category.id)

    def category_ids(self, class_names: Iterable[str], is_thing: bool) -> list[int]:
        """The category id of each class of things or stuff. Raises SameboxError for classes without one."""
        known = {entry.name: entry.id for entry in self.categories if entry.is_thing == is_thing}
        names = list(class_names)
        if unmatched := [name for name in names if name not in known]:
            kind = "things" if is_thing else "stuff"
            raise SameboxError(
                f"{self._source}: no category of {kind} is called {', '.join(unmatched)}; its categories "
                f"are {', '.join(known)}; use these names for the detector's classes"
            )
        return [known[name] for name in names]


class PanopticSet(CategorySet):
    """Segments in COCO's panoptic format: a JSON file, and a folder with a PNG file for each image.

    Raises SameboxError if the file does not exist, is not JSON, lacks a key that is read, or has a segment
    without a category.
    """

    def __init__(self, annotations: Path, folder: Path) -> None:
        document = read_json(annotations)
        _check(document, annotations)
        categories = document["categories"]
        super().__init__(
            annotations,
            (Category(entry["id"], entry["name"], bool(entry["isthing"])) for entry in categories),
        )
        self._folder = folder
        self._entries = {entry["image_id"]: entry for entry in document["annotations"]}

    def check(self, image_ids: Iterable[int]) -> None:
        """Raises SameboxError if one of the images has no entry or no PNG file."""
        for image_id in image_ids:
            self._entry(image_id)

    def segment_map(self, image_id: int) -> SegmentMap:
        """The segments of an image. Raises SameboxError if it has none, or if its file cannot be read."""
        path, segments = self._entry(image_id)
        crowds = frozenset(segment["id"] for segment in segments if segment.get("iscrowd"))
        categories = {segment["id"]: segment["category_id"] for segment in segments}
        return SegmentMap(_ids(path), categories, crowds)

    def panoptic(self, image_id: int) -> Panoptic:
        """The segments of an image as post-processing returns them; the pixels of objects have class 0."""
        truth, by_id = self.segment_map(image_id), {entry.id: entry for entry in self.categories}
        stuff = [entry.id for entry in self.categories if not entry.is_thing]
        classes = np.zeros(truth.ids.shape, np.uint16)
        for number, category in truth.categories.items():
            if category in stuff:
                classes[truth.ids == number] = 1 + stuff.index(category)
        segments = (
            Segment(number, by_id[category].name, by_id[category].is_thing)
            for number, category in truth.categories.items()
        )
        names = tuple(by_id[category].name for category in stuff)
        return Panoptic(truth.ids.astype(np.int32), tuple(segments), classes, names)

    def _entry(self, image_id: int) -> tuple[Path, list[dict[str, Any]]]:
        """The PNG file of an image and its segments."""
        if image_id not in self._entries:
            raise SameboxError(f"{self._source}: no segments of image {image_id}; leave the image out")
        entry = self._entries[image_id]
        path = self._folder / entry["file_name"]
        return existing(path, "put the panoptic PNG files there"), entry["segments_info"]


@dataclass(frozen=True)
class PanopticResult:
    """The predicted segments of one image, with maps encoded as PNG.

    `segments`: the id and category_id of each segment. `png`: the id of each pixel as COCO's colour.
    `classes`: the stuff category of each pixel before objects are laid over it, 0 for things.
    """

    image_id: int
    segments: list[dict[str, int]]
    png: bytes
    classes: bytes

    @property
    def file_name(self) -> str:
        """The name of the PNG file in a folder of results."""
        return f"{self.image_id:012d}.png"

    def segment_map(self) -> SegmentMap:
        """The segments in the form of the ground truth."""
        categories = {segment["id"]: segment["category_id"] for segment in self.segments}
        return SegmentMap(_numbers(_decoded(self.png)), categories)

    def stuff_map(self) -> NDArray[np.unsignedinteger]:
        """The predicted category of stuff of each pixel [H,W], 0 for things."""
        return _decoded(self.classes, cv2.IMREAD_UNCHANGED)


def panoptic_result(image_id: int, panoptic: Panoptic, dataset: CategorySet) -> PanopticResult:
    """The predicted segments of an image, with the categories of `dataset`, matched by class name.

    Raises SameboxError for classes that the data set does not have.
    """
    names = [segment.class_name for segment in panoptic.segments]
    kinds = [segment.is_thing for segment in panoptic.segments]
    numbers = [dataset.category_ids([name], kind)[0] for name, kind in zip(names, kinds, strict=True)]
    segments = [
        {"id": segment.id, "category_id": number}
        for segment, number in zip(panoptic.segments, numbers, strict=True)
    ]
    categories = np.array([0, *dataset.category_ids(panoptic.stuff_class_names, is_thing=False)], np.uint16)
    colours = np.stack([panoptic.ids >> 16, panoptic.ids >> 8 & 255, panoptic.ids & 255], -1).astype(np.uint8)
    return PanopticResult(image_id, segments, _png(colours), _png(categories[panoptic.classes]))


@dataclass
class PanopticResults:
    """The predicted segments of several images, with the categories of `dataset`."""

    dataset: CategorySet
    results: list[PanopticResult] = field(default_factory=list)

    def add(self, image_id: int, panoptic: Panoptic) -> None:
        """Add the segments of an image. Raises the errors of `panoptic_result`."""
        self.results.append(panoptic_result(image_id, panoptic, self.dataset))

    def write(self, annotations: Path, folder: Path) -> None:
        """Write COCO's panoptic format: the PNG files to `folder`, then the JSON file `annotations`."""
        for result in self.results:
            with atomic_write(folder / result.file_name) as aside:
                aside.write_bytes(result.png)
        write_json(annotations, self.document())

    def document(self) -> dict[str, Any]:
        """The content of the JSON file."""
        entries = [
            {"image_id": result.image_id, "file_name": result.file_name, "segments_info": result.segments}
            for result in self.results
        ]
        categories = [
            {"id": category.id, "name": category.name, "isthing": int(category.is_thing)}
            for category in self.dataset.categories
        ]
        return {"annotations": entries, "categories": categories}


def _ids(path: Path) -> NDArray[np.int64]:
    encoded = np.frombuffer(path.read_bytes(), np.uint8)
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    if image is None:
        raise SameboxError(f"{path}: not a PNG image; put the data set's PNG file there")
    return _numbers(image)


def _numbers(image: NDArray[Any]) -> NDArray[np.int64]:
    """Colours [H,W,3] in OpenCV's order, blue first → ids [H,W]."""
    blue, green, red = (image[..., channel].astype(np.int64) for channel in range(3))
    return red + 256 * green + 256**2 * blue


def _png(image: NDArray[Any]) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def _decoded(png: bytes, flags: int = cv2.IMREAD_COLOR) -> NDArray[Any]:
    return np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), flags))


def _check(document: Any, path: Path) -> None:
    check_lists(document, path, _KEYS, "panoptic")
    known = {category["id"] for category in document["categories"]}
    for entry in document["annotations"]:
        for segment in entry["segments_info"]:
            if "id" not in segment or segment.get("category_id") not in known:
                raise SameboxError(
                    f"{path}: image {entry['image_id']} has a segment without an id or without a known "
                    "category; give a COCO panoptic file"
                )
