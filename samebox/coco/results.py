"""Detections in COCO's results format, which every COCO tool reads."""

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from samebox.core.errors import SameboxError
from samebox.core.files import atomic_write, existing
from samebox.postprocess.detections import Detections

# Kind of prediction → the key of a result that holds its geometry
GEOMETRY = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}

# COCO's keypoints count from the centre of the first pixel: offset of x, y and score
PIXEL_CENTRE = (0.5, 0.5, 0.0)


def results_from_detections(
    image_id: int, detections: Detections, category_ids: Sequence[int], file_name: str | None = None
) -> list[dict[str, Any]]:
    """One COCO result for each detection of an image.

    `bbox` is x, y, width, height in pixels of the original image, unrounded. If the detections have masks,
    `segmentation` is a run-length code. If they have keypoints, `keypoints` is a flat list of x, y, score,
    with x and y counted from the centre of the first pixel, as in COCO's annotations. `category_ids[label]`
    is the category id of a label. If given, `file_name` is added to each result. The box of an `inclusive`
    detection ends after its last pixel; its keypoints already count from the centre of the first pixel.
    """
    boxes = detections.boxes.astype(np.float64)  # the differences below are then exact
    boxes[:, 2:] += float(detections.inclusive) - boxes[:, :2]
    results: list[dict[str, Any]] = [
        {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
        for box, score, label in zip(
            boxes.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True
        )
    ]
    if detections.masks is not None:
        for result, code in zip(results, encode_masks(detections.masks), strict=True):
            result["segmentation"] = code
    if detections.keypoints is not None:
        centre = (0.0, 0.0, 0.0) if detections.inclusive else PIXEL_CENTRE
        points = detections.keypoints.astype(np.float64) - centre
        for result, of_object in zip(results, points, strict=True):
            result["keypoints"] = of_object.flatten().tolist()
    if file_name is not None:
        for result in results:
            result["file_name"] = file_name
    return results


def detections_from_results(
    results: Sequence[dict[str, Any]], category_ids: Sequence[int], class_names: Sequence[str]
) -> Detections:
    """The detections of one image, not `inclusive`, from its COCO results.

    The inverse of `results_from_detections` for detections that are not `inclusive`.
    """
    labels = {category_id: label for label, category_id in enumerate(category_ids)}
    boxes = corners(np.array([result["bbox"] for result in results], np.float64))
    has_masks, has_keypoints = (
        bool(results) and all(key in result for result in results) for key in ("segmentation", "keypoints")
    )
    return Detections(
        boxes=boxes.astype(np.float32),
        scores=np.array([result["score"] for result in results], np.float32),
        labels=np.array([labels[result["category_id"]] for result in results], np.int64),
        class_names=tuple(class_names),
        masks=decode_masks([result["segmentation"] for result in results]) if has_masks else None,
        keypoints=_keypoints([result["keypoints"] for result in results]) if has_keypoints else None,
    )


def corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes x, y, width, height, [N,4] or an empty array of any shape → x1 y1 x2 y2 [N,4]."""
    boxes = boxes.reshape(-1, 4)
    return np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])


def write_results(path: str | Path, results: list[dict[str, Any]]) -> None:
    """Write the results whole or not at all, compressed if the name ends in `.gz`.

    Equal results give equal bytes.
    """
    content = json.dumps(results, separators=(",", ":")).encode()
    with atomic_write(path) as aside:
        aside.write_bytes(gzip.compress(content, mtime=0) if aside.suffix == ".gz" else content)


@contextmanager
def results_writer(path: str | Path) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    """Yields a function that adds results to the JSON file at `path`, which is complete when the block ends.

    The bytes equal those of `write_results`; the memory does not grow with their number.
    """
    with atomic_write(path) as aside, aside.open("w", encoding="utf-8") as file:
        separator = "["

        def add(results: list[dict[str, Any]]) -> None:
            nonlocal separator
            for result in results:
                file.write(separator + json.dumps(result, separators=(",", ":")))
                separator = ","

        yield add
        file.write("[]" if separator == "[" else "]")


def read_results(path: str | Path) -> list[dict[str, Any]]:
    """The results in a `.json` or `.json.gz` file. Raises SameboxError if it does not hold COCO results."""
    path = existing(path)
    try:
        content = path.read_bytes()
        results = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
    except (ValueError, EOFError, gzip.BadGzipFile) as error:
        raise SameboxError(f"{path}: not COCO results ({error}); evaluate again") from None
    if not isinstance(results, list):
        raise SameboxError(f"{path}: not a JSON list of COCO results; evaluate again")
    return results


def encode_masks(masks: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """COCO's run-length codes of masks [N,H,W], as from `pycocotools.mask.encode`, with counts as text for
    JSON.

    Fast if each mask is stored column by column, as `paste_sampled` returns it; other masks are copied into
    that order.
    """
    count, height, width = masks.shape
    if not count:
        return []
    columns = np.ascontiguousarray(masks.transpose(0, 2, 1)).reshape(count, height * width)
    runs = [{"size": [height, width], "counts": _runs(mask)} for mask in columns]
    codes = rle.frPyObjects(runs, height, width)
    return [{"size": code["size"], "counts": code["counts"].decode()} for code in codes]


def decode_masks(codes: list[dict[str, Any]]) -> NDArray[np.bool_]:
    """Masks [N,H,W] from run-length codes, one or more of the same size; the inverse of `encode_masks`."""
    return rle.decode(codes).transpose(2, 0, 1).astype(np.bool_)


def _keypoints(flat: list[list[float]]) -> NDArray[np.float32]:
    return (np.array(flat, np.float64).reshape(len(flat), -1, 3) + PIXEL_CENTRE).astype(np.float32)


def _runs(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The lengths of the runs of a flattened mask [P]: first of zeros, then of ones, and so on."""
    first = int(mask.argmax())  # stops at the first 1, and is 0 if there is none
    rest = mask[first:]
    changes = np.flatnonzero(rest[1:] != rest[:-1]) + (first + 1)
    bounds = np.concatenate(([0, first] if mask[first] else [0], changes, [mask.size]))
    return bounds[1:] - bounds[:-1]
