"""A data set in COCO's instances format."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

from samebox.coco.checking import KEYS, checked_instances
from samebox.coco.panoptic import PanopticSet
from samebox.core.errors import SameboxError
from samebox.core.files import existing, read_json


@dataclass(frozen=True)
class ImageRecord:
    """One image of the data set; width and height in pixels."""

    id: int
    file_name: str
    width: int
    height: int


class CocoDataset:
    """Images in a folder and their objects in a COCO instances file.

    `images` are records and `class_names` categories, both ordered by id. `ground_truth` is the pycocotools
    object that results are scored against. `segments`: a panoptic file and the folder of its PNG files, or
    None. `annotated` is false if there is no object: the file of a test set may hold only images and
    categories, and then only the categories of its panoptic file are read. `notes` state what was corrected
    in the annotations. Raises SameboxError if a file does not exist, is not JSON, or cannot be scored
    against, see `samebox.coco.checking`.
    """

    def __init__(self, images: Path, annotations: Path, segments: tuple[Path, Path] | None = None) -> None:
        document, self.notes = checked_instances(read_json(annotations), annotations)
        self._folder = Path(images)
        self._annotations = annotations
        self._segments = segments
        self.images = sorted(
            (ImageRecord(*(entry[key] for key in KEYS["images"])) for entry in document["images"]),
            key=lambda record: record.id,
        )
        self._ids = {
            category["name"]: category["id"]
            for category in sorted(document["categories"], key=lambda category: category["id"])
        }
        self.class_names = tuple(self._ids)
        self.annotated = bool(document.get("annotations"))
        self.ground_truth = coco_index(document)

    @cached_property
    def panoptic(self) -> PanopticSet | None:
        """The segments of the images, read at the first access. Raises SameboxError if an image has none."""
        if self._segments is None:
            return None
        panoptic = PanopticSet(*self._segments)
        if self.annotated:
            panoptic.check(record.id for record in self.images)
        return panoptic

    def check_annotated(self) -> None:
        """Raises SameboxError if there is no object to score against."""
        if not self.annotated:
            raise SameboxError(
                f"{self._annotations}: has no annotations to score against; write results for a test server "
                "with `samebox submit`"
            )

    def path(self, record: ImageRecord) -> Path:
        """The path of the image. Raises SameboxError if the file does not exist."""
        return existing(self._folder / record.file_name, "put the data set's images there")

    def category_ids(self, class_names: Sequence[str]) -> list[int]:
        """The category id of each class, matched by name. Raises SameboxError for classes without one."""
        if unmatched := [name for name in class_names if name not in self._ids]:
            raise SameboxError(
                f"{self._annotations}: no category is called {', '.join(unmatched)}; its categories are "
                f"{', '.join(self.class_names)}; use these names for the detector's classes"
            )
        return [self._ids[name] for name in class_names]


def dataset_of(record: Mapping[str, Any]) -> CocoDataset:
    """The data set of a record of `conf/dataset`. Raises the errors of CocoDataset."""
    panoptic = record.get("panoptic")
    segments = panoptic and (Path(panoptic["annotations"]), Path(panoptic["segments"]))
    return CocoDataset(Path(record["images"]), Path(record["annotations"]), segments)


def coco_index(document: dict[str, Any]) -> COCO:
    """The pycocotools object of a COCO document, created without pycocotools' messages on stdout."""
    coco = COCO()
    coco.dataset = document
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco
