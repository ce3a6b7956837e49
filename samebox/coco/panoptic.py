"""COCO's panoptic format: segments of every pixel, of the ground truth and of results.

A JSON file lists the segments of each image; in a PNG file of its own each pixel holds the id of its segment
as the colour R + 256 G + 256² B, 0 where there is none (void).
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
    """A class of segments, by its name in the data set."""

    id: int
    name: str
    is_thing: bool


@dataclass(frozen=True)
class SegmentMap:
    """What a PNG file and its entry say of an image: `ids` [H,W] int64, and of each id its category.

    `crowds` are the ids that stand for a group of objects.
    """

    ids: NDArray[np.int64]
    categories: Mapping[int, int]
    crowds: frozenset[int] = frozenset()


class CategorySet:
    """The classes of segments, `categories` ordered by id; `source` is what errors name."""

    def __init__(self, source: str | Path, categories: Iterable[Category]) -> None:
        self._source = source
        self.categories = sorted(categories, key=lambda category: category.id)

    def category_ids(self, class_names: Iterable[str], is_thing: bool) -> list[int]:
        """The category of each class of objects, or of stuff; SameboxError names those without one."""
        known = {one.name: one.id for one in self.categories if one.is_thing == is_thing}
        names = list(class_names)
        if unmatched := [name for name in names if name not in known]:
            kind = "objects" if is_thing else "stuff"
            raise SameboxError(
                f"{self._source}: no category of {kind} is called {', '.join(unmatched)}; it has "
                f"{', '.join(known)}; name the detector's classes as the data set does"
            )
        return [known[name] for name in names]


class PanopticSet(CategorySet):
    """Segments in COCO's panoptic format: a JSON file, and a folder with a PNG file for each image.

    Raises SameboxError where the file is absent, is no JSON, lacks a key that is read, or has a segment of no
    category.
    """

    def __init__(self, annotations: Path, folder: Path) -> None:
        document = read_json(annotations)
        _check(document, annotations)
        categories = document["categories"]
        super().__init__(
            annotations, (Category(one["id"], one["name"], bool(one["isthing"])) for one in categories)
        )
        self._folder = folder
        self._entries = {entry["image_id"]: entry for entry in document["annotations"]}

    def check(self, image_ids: Iterable[int]) -> None:
        """Raise SameboxError where one of the images has no entry, or no PNG file."""
        for image_id in image_ids:
            self._entry(image_id)

    def segment_map(self, image_id: int) -> SegmentMap:
        """The segments of an image. Raises SameboxError where it has none, or a file that cannot be read."""
        path, segments = self._entry(image_id)
        crowds = frozenset(segment["id"] for segment in segments if segment.get("iscrowd"))
        categories = {segment["id"]: segment["category_id"] for segment in segments}
        return SegmentMap(_ids(path), categories, crowds)

    def panoptic(self, image_id: int) -> Panoptic:
        """The segments of an image as a detector gives them; the classes beneath objects are 0."""
        truth, by_id = self.segment_map(image_id), {one.id: one for one in self.categories}
        stuff = [one.id for one in self.categories if not one.is_thing]
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
    """The segments that a detector found in one image, its maps packed as PNG files.

    `segments` are id and category_id of each, `png` holds the ids as COCO's colours, `classes` the category
    of stuff that each pixel has before objects are laid over it, 0 for an object's.
    """

    image_id: int
    segments: list[dict[str, int]]
    png: bytes
    classes: bytes

    @property
    def file_name(self) -> str:
        """That of the PNG file in a folder of results."""
        return f"{self.image_id:012d}.png"

    def segment_map(self) -> SegmentMap:
        """As the ground truth says it."""
        categories = {segment["id"]: segment["category_id"] for segment in self.segments}
        return SegmentMap(_numbers(_decoded(self.png)), categories)

    def stuff_map(self) -> NDArray[np.unsignedinteger]:
        """The category of stuff of each pixel [H,W], 0 for objects."""
        return _decoded(self.classes, cv2.IMREAD_UNCHANGED)


def panoptic_result(image_id: int, found: Panoptic, dataset: CategorySet) -> PanopticResult:
    """What was found in an image, by the categories of `dataset`, which are matched by name.

    Raises SameboxError naming classes that it does not have.
    """
    names = [segment.class_name for segment in found.segments]
    kinds = [segment.is_thing for segment in found.segments]
    numbers = [dataset.category_ids([name], kind)[0] for name, kind in zip(names, kinds, strict=True)]
    segments = [
        {"id": segment.id, "category_id": number}
        for segment, number in zip(found.segments, numbers, strict=True)
    ]
    categories = np.array([0, *dataset.category_ids(found.stuff_class_names, is_thing=False)], np.uint16)
    colours = np.stack([found.ids >> 16, found.ids >> 8 & 255, found.ids & 255], -1).astype(np.uint8)
    return PanopticResult(image_id, segments, _png(colours), _png(categories[found.classes]))


@dataclass
class PanopticResults:
    """What a detector found in several images, by the categories of `dataset`."""

    dataset: CategorySet
    results: list[PanopticResult] = field(default_factory=list)

    def add(self, image_id: int, found: Panoptic) -> None:
        """Keep what was found in an image. Raises what `panoptic_result` does."""
        self.results.append(panoptic_result(image_id, found, self.dataset))

    def write(self, annotations: Path, folder: Path) -> None:
        """Write COCO's format: each PNG file to `folder`, then the JSON file `annotations`."""
        for result in self.results:
            with atomic_write(folder / result.file_name) as aside:
                aside.write_bytes(result.png)
        write_json(annotations, self.document())

    def document(self) -> dict[str, Any]:
        """What the JSON file holds."""
        entries = [
            {"image_id": one.image_id, "file_name": one.file_name, "segments_info": one.segments}
            for one in self.results
        ]
        categories = [
            {"id": one.id, "name": one.name, "isthing": int(one.is_thing)} for one in self.dataset.categories
        ]
        return {"annotations": entries, "categories": categories}


def _ids(path: Path) -> NDArray[np.int64]:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise SameboxError(f"{path}: no PNG image; put the data set's own there")
    return _numbers(image)


def _numbers(image: NDArray[Any]) -> NDArray[np.int64]:
    """Colours [H,W,3], blue first as OpenCV has them → ids [H,W]."""
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
                    f"{path}: image {entry['image_id']} has a segment without id or of no category; give a "
                    "COCO panoptic file"
                )
