"""Results as evaluation servers take them: COCO's a zip for each task, VOC's a text for each class."""

import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from samebox.coco.dataset import CocoDataset
from samebox.coco.panoptic import PanopticResults
from samebox.coco.results import GEOMETRY
from samebox.core.files import atomic_write, write_text

# What the files of a task begin with; boxes and masks have a server each
_TASKS = {
    "bbox": "detections",
    "segm": "detections",
    "keypoints": "person_keypoints",
    "panoptic": "panoptic",
}
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a zip's earliest date, so that the same results give the same bytes


def write_detections(folder: Path, task: str, stem: str, results: Sequence[dict[str, Any]]) -> Path:
    """The zip of `bbox`, `segm` or `keypoints` under `folder`, from COCO results that have this geometry.

    `stem` is what the server wants in the name, "[split]_[algorithm]". Each result has the one geometry: a
    server would else sort masks by the area of their box.
    """
    kept = ("image_id", "category_id", "score", GEOMETRY[task])
    own = [{key: result[key] for key in kept} for result in results]
    name = f"{_TASKS[task]}_{stem}_results"
    return _zipped(folder / task / f"{name}.zip", [(f"{name}.json", _json(own))])


def write_segments(folder: Path, stem: str, results: PanopticResults) -> Path:
    """The zip of `panoptic` under `folder`: a JSON file, and a PNG file for each image."""
    name = f"{_TASKS['panoptic']}_{stem}_results"

    def entries() -> Iterator[tuple[str, bytes]]:
        yield f"{name}.json", _json(results.document())
        yield from ((f"{name}/{one.file_name}", one.png) for one in results.results)

    return _zipped(folder / "panoptic" / f"{name}.zip", entries())


def write_voc(folder: Path, results: Iterable[dict[str, Any]], dataset: CocoDataset) -> Iterator[Path]:
    """`comp4_det_test_[class].txt` of each class under `folder`, from COCO results, as VOC's devkit reads it.

    A line is an image, by its file's name without suffix, a score, and x1 y1 x2 y2: VOC counts pixels from 1,
    and a box ends with its last.
    """
    images = {record.id: Path(record.file_name).stem for record in dataset.images}
    numbers = dataset.category_ids(dataset.class_names)
    lines: dict[int, list[str]] = {number: [] for number in numbers}
    for result in results:
        x, y, width, height = result["bbox"]
        box = f"{x + 1:.2f} {y + 1:.2f} {x + width:.2f} {y + height:.2f}"
        lines[result["category_id"]].append(f"{images[result['image_id']]} {result['score']:.6f} {box}\n")
    for name, number in zip(dataset.class_names, numbers, strict=True):
        path = folder / f"comp4_det_test_{name}.txt"
        write_text(path, "".join(lines[number]))
        yield path


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _zipped(path: Path, entries: Iterable[tuple[str, bytes]]) -> Path:
    """Write the entries, name and content, whole or not at all."""
    with atomic_write(path) as aside, zipfile.ZipFile(aside, "w") as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    return path
