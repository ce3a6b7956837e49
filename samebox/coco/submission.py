"""Submissions to evaluation servers: for COCO a zip for each task, for VOC a text file for each class."""

import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from samebox.coco.dataset import CocoDataset
from samebox.coco.panoptic import PanopticResults
from samebox.coco.results import GEOMETRY
from samebox.core.files import atomic_write, write_text

# Prefix of the file name of each task; COCO has one server for boxes and one for masks
_TASKS = {
    "bbox": "detections",
    "segm": "detections",
    "keypoints": "person_keypoints",
    "panoptic": "panoptic",
}
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip, so that equal results give equal bytes


def write_detections(folder: Path, task: str, stem: str, results: Sequence[dict[str, Any]]) -> Path:
    """Write the zip of a task (`bbox`, `segm` or `keypoints`) under `folder`, from COCO results.

    `stem` is the part of the file name that the server requires, "[split]_[algorithm]". Results are written
    with the geometry of the task only: if they had a box as well, the server would class masks as small,
    medium or large by the area of the box.
    """
    kept = ("image_id", "category_id", "score", GEOMETRY[task])
    of_task = [{key: result[key] for key in kept} for result in results]
    name = f"{_TASKS[task]}_{stem}_results"
    return _zipped(folder / task / f"{name}.zip", [(f"{name}.json", _json(of_task))])


def write_segments(folder: Path, stem: str, results: PanopticResults) -> Path:
    """Write the zip of the panoptic task under `folder`: a JSON file, and a PNG file for each image."""
    name = f"{_TASKS['panoptic']}_{stem}_results"

    def entries() -> Iterator[tuple[str, bytes]]:
        yield f"{name}.json", _json(results.document())
        yield from ((f"{name}/{result.file_name}", result.png) for result in results.results)

    return _zipped(folder / "panoptic" / f"{name}.zip", entries())


def write_voc(folder: Path, results: Iterable[dict[str, Any]], dataset: CocoDataset) -> Iterator[Path]:
    """Write `comp4_det_test_[class].txt` for each class under `folder`, in the format of VOC's devkit.

    Each line is the file name of an image without its suffix, the score, and x1 y1 x2 y2. VOC counts pixels
    from 1, and x2 y2 is the last pixel of the box.
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
    """Write a zip of the entries (name, content), whole or not at all."""
    with atomic_write(path) as aside, zipfile.ZipFile(aside, "w") as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    return path
