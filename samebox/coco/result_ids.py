"""The image ids and category ids of results: counted, or those of a data set."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from samebox.coco.checking import check_lists
from samebox.coco.panoptic import Category, CategorySet
from samebox.core.errors import SameboxError
from samebox.core.files import read_json
from samebox.record.spec import Spec

_SECTIONS = {"images": ("id", "file_name"), "categories": ("id", "name")}


@dataclass(frozen=True)
class ResultIds:
    """The ids that results use.

    `categories` are the detector's classes of objects and of stuff, and `category_ids` the ids of its labels.
    `image_id` takes the path of an image and its number among the inputs, counted from 1. `source` states in
    one line where the ids come from.
    """

    categories: CategorySet
    category_ids: Sequence[int]
    image_id: Callable[[str, int], int]
    source: str


def recorded_ids(spec: Spec) -> ResultIds:
    """Category ids from the record, or else counted from 1, stuff after objects. Image ids are counted."""
    ids: Sequence[int]
    stuff_ids: Sequence[int]
    if spec.categories is None:
        source = "image ids and category ids count from 1; --categories ANNOTATIONS.json takes a data set's"
        count = len(spec.class_names)
        ids = range(1, count + 1)
        stuff_ids = range(count + 1, count + len(_stuff_names(spec)) + 1)
    else:
        ids, stuff_ids = spec.categories.ids, spec.categories.stuff_ids
        source = f"image ids count from 1; category ids are those of {spec.categories.dataset}"
    categories = _categories(spec.name, spec, ids, stuff_ids)
    return ResultIds(categories, ids, lambda path, number: number, source)


def annotated_ids(annotations: Path, spec: Spec) -> ResultIds:
    """The ids in a COCO instances or panoptic file. Classes are matched by name.

    Raises SameboxError if the file is neither, has several categories of one name, or lacks a class of the
    detector.
    """
    document = read_json(annotations)
    check_lists(document, annotations, _SECTIONS, "instances or panoptic")
    known = [
        Category(entry["id"], entry["name"], bool(entry.get("isthing", True)))
        for entry in document["categories"]
    ]
    names = [(category.name, category.is_thing) for category in known]
    if repeated := sorted({name for name, thing in names if names.count((name, thing)) > 1}):
        raise SameboxError(f"{annotations}: several categories are called {repeated[0]}; rename all but one")
    dataset = CategorySet(annotations, known)
    ids = dataset.category_ids(spec.class_names, is_thing=True)
    stuff_ids = dataset.category_ids(_stuff_names(spec), is_thing=False)
    categories = _categories(annotations, spec, ids, stuff_ids)
    source = f"image ids and category ids are those of {annotations}"
    return ResultIds(categories, ids, _ImageIds(annotations, document["images"]), source)


class _ImageIds:
    """The image ids in an annotation file, by file name, each at most once."""

    def __init__(self, annotations: Path, images: Sequence[Mapping[str, Any]]) -> None:
        self._annotations = annotations
        self._ids: dict[str, list[int]] = {}
        for image in images:
            self._ids.setdefault(image["file_name"], []).append(image["id"])
        self._taken: set[int] = set()

    def __call__(self, path: str, number: int) -> int:
        """The id of the image whose file name is an end of `path`, the longest if there are several.

        Raises SameboxError unless there is exactly one, and for an image that was given before.
        """
        parts = PurePath(os.path.abspath(path)).parts
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        ids = next((self._ids[end] for end in ends if end in self._ids), [])
        if len(ids) != 1:
            count = f"{len(ids)} images" if ids else "no image"
            raise SameboxError(
                f"{path}: {self._annotations} lists {count} of this name; leave it out, or --categories"
            )
        if ids[0] in self._taken:
            raise SameboxError(f"{path}: image {ids[0]} of {self._annotations} a second time; leave it out")
        self._taken.add(ids[0])
        return ids[0]


def _categories(source: str | Path, spec: Spec, ids: Sequence[int], stuff_ids: Sequence[int]) -> CategorySet:
    """The detector's classes with their ids."""
    things = [Category(*one, is_thing=True) for one in zip(ids, spec.class_names, strict=True)]
    stuff = [Category(*one, is_thing=False) for one in zip(stuff_ids, _stuff_names(spec), strict=True)]
    return CategorySet(source, things + stuff)


def _stuff_names(spec: Spec) -> Sequence[str]:
    return spec.decoding.panoptic.stuff_class_names if spec.decoding.panoptic else ()
