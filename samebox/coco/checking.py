"""One pass over a COCO instances file before anything is run on it.

pycocotools checks nothing: annotation ids that repeat, text instead of numbers or a broken run-length code
end in a wrong score, a crash or a hang. Everything that can be corrected without a guess is corrected and
noted; everything else raises SameboxError with the file, the entry, the key and the fix.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samebox.core.errors import SameboxError
from samebox.core.text import one_line

# Keys that COCO's evaluation reads from each entry
KEYS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd"),
    "categories": ("id", "name"),
}
_LARGEST_ID = (1 << 63) - 1  # pycocotools keeps ids in 64 bits
_LARGEST_SIDE = 1 << 20
_LARGEST_RUN = 1 << 40
_POLYGON = 6  # numbers of a triangle, the least polygon; pycocotools takes four numbers for a box

Entry = dict[str, Any]


class Notes:
    """Counts corrections by kind, with the first entry of each as an example."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, correction: str, entry: str) -> None:
        """Count one correction, made in `entry`."""
        self._counts[correction] += 1
        self._first.setdefault(correction, entry)

    def lines(self) -> list[str]:
        """One line for each kind of correction."""
        return [
            f"annotations: {correction}: {count}, the first in {self._first[correction]}"
            for correction, count in self._counts.items()
        ]


def checked_instances(document: Any, path: Path) -> tuple[dict[str, Any], list[str]]:
    """The document with sound entries alone, and a note for each kind of correction.

    Annotation ids are renumbered from 1 if they repeat or are not positive, because pycocotools counts an
    object of id 0 as unmatched and keeps one object for each id. The list `annotations` may be absent, as in
    the file of a test set. Raises SameboxError for an entry that cannot be corrected.
    """
    check_lists(document, path, KEYS, "instances", optional=("annotations",))
    notes = Notes()
    categories = [_category(entry, index, path) for index, entry in enumerate(document["categories"])]
    _check_unique(path, "categories", "id", (category["id"] for category in categories))
    _check_unique(path, "categories", "name", (category["name"] for category in categories))
    images = _images(document["images"], path, notes)
    clean = document | {"images": images, "categories": categories}
    if "annotations" in document:
        sizes = {image["id"]: (image["height"], image["width"]) for image in images}
        known = {category["id"] for category in categories}
        clean["annotations"] = _annotations(document["annotations"], sizes, known, path, notes)
    return clean, notes.lines()


def check_lists(
    document: Any,
    path: Path,
    sections: Mapping[str, Sequence[str]],
    kind: str,
    optional: Sequence[str] = (),
) -> None:
    """Raise SameboxError unless a COCO document has the `sections`, and each of their entries the keys."""
    for section, keys in sections.items():
        if section in optional and isinstance(document, dict) and section not in document:
            continue
        if not isinstance(document, dict) or not isinstance(document.get(section), list):
            raise SameboxError(f"{path}: no list `{section}`; give a COCO {kind} file")
        for index, entry in enumerate(document[section]):
            if not isinstance(entry, dict):
                raise SameboxError(f"{path}: {section}[{index}] is no object; give a COCO {kind} file")
            if missing := [key for key in keys if key not in entry]:
                raise SameboxError(
                    f"{path}: {section}[{index}] has no `{missing[0]}`; COCO's evaluation reads "
                    f"{', '.join(keys)} of each"
                )


def checked_id(value: Any, where: str, key: str = "id") -> int:
    """`value` as an id, a whole number from 0 up. Raises SameboxError naming `where` and `key`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= _LARGEST_ID:
        raise _refusal(where, key, value, "give a whole number from 0 to 2^63 - 1")
    return value


def checked_name(value: Any, where: str, key: str = "file_name") -> str:
    """`value` as a path within a folder. Raises SameboxError naming `where` and `key`."""
    parts = PurePosixPath(value).parts if isinstance(value, str) else ()
    outside = not parts or ".." in parts or "\0" in value
    if outside or PurePosixPath(value).is_absolute() or PureWindowsPath(value).drive:
        raise _refusal(where, key, value, "give the path of a file within the data set's folder")
    return str(value)


def _refusal(where: str, key: str, value: Any, fix: str) -> SameboxError:
    return SameboxError(f"{where}: {key} is {one_line(repr(value), 60)}; {fix}")


def _check_unique(path: Path, section: str, key: str, values: Iterable[Any]) -> None:
    value, count = next(iter(Counter(values).most_common(1)), (None, 0))
    if count > 1:
        raise SameboxError(
            f"{path}: {section} has {count} entries with the {key} {one_line(value)}; give each its own {key}"
        )


def _category(entry: Entry, index: int, path: Path) -> Entry:
    where = f"{path}: categories[{index}]"
    if not isinstance(entry["name"], str) or not entry["name"]:
        raise _refusal(where, "name", entry["name"], "give a text")
    return entry | {"id": checked_id(entry["id"], where)}


def _images(entries: Sequence[Entry], path: Path, notes: Notes) -> list[Entry]:
    by_id: dict[int, Entry] = {}
    ids_of_file: dict[str, int] = {}
    for index, entry in enumerate(entries):
        where = f"{path}: images[{index}]"
        number = checked_id(entry["id"], where)
        sides = {side: _side(entry[side], f"{where} (id {number})", side) for side in ("width", "height")}
        image = entry | {"id": number, "file_name": checked_name(entry["file_name"], where)} | sides
        if by_id.get(number, image) != image:
            raise SameboxError(f"{where}: id {number} is also the id of another image; give each its own id")
        if number in by_id:
            notes.add("images listed twice and counted once", f"image {number}")
        elif ids_of_file.setdefault(image["file_name"], number) != number:
            notes.add("files that are listed under two ids and count twice", f"image {number}")
        by_id[number] = image
    return list(by_id.values())


def _side(value: Any, where: str, key: str) -> int:
    if type(value) not in (int, float) or not 1 <= value <= _LARGEST_SIDE or value != int(value):
        raise _refusal(where, key, value, "give a whole number of pixels from 1 up")
    return int(value)


def _annotations(
    entries: Sequence[Entry],
    sizes: Mapping[int, tuple[int, int]],
    categories: set[int],
    path: Path,
    notes: Notes,
) -> list[Entry]:
    clean = []
    for index, entry in enumerate(entries):
        where = f"{path}: annotations[{index}] (id {one_line(entry['id'], 30)})"
        ids = {key: checked_id(entry[key], where, key) for key in ("image_id", "category_id")}
        if ids["image_id"] not in sizes:
            notes.add("objects left out because their image is not listed", _entry(where))
            continue
        if ids["category_id"] not in categories:
            raise _refusal(where, "category_id", ids["category_id"], "list it in `categories`")
        clean.append(_object(entry, where, sizes[ids["image_id"]], notes) | ids)
    return _renumbered(clean, notes)


def _entry(where: str) -> str:
    """The entry that `where` names, without its file."""
    return where.rpartition(": ")[2]


def _object(entry: Entry, where: str, size: tuple[int, int], notes: Notes) -> Entry:
    """The entry of an object, its numbers and its mask checked; its image is `size`, height and width."""
    box = _numbers(entry["bbox"], where, "bbox")
    if len(box) != 4 or min(box[2:]) < 0:
        raise _refusal(where, "bbox", box, "give x, y, width and height, the last two from 0 up")
    if not min(box[2:]):
        notes.add("objects with an empty box, which no detection can match", _entry(where))
    (area,) = _numbers([entry["area"]], where, "area")
    if area < 0:
        raise _refusal(where, "area", area, "give a number from 0 up")
    if entry["iscrowd"] not in (0, 1):
        raise _refusal(where, "iscrowd", entry["iscrowd"], "give 0 or 1")
    clean = entry | {"iscrowd": int(entry["iscrowd"])}
    if "segmentation" in entry:
        clean["segmentation"] = _mask(entry["segmentation"], where, size, notes)
    if "keypoints" in entry and len(_numbers(entry["keypoints"], where, "keypoints")) % 3:
        raise _refusal(where, "keypoints", entry["keypoints"], "give x, y and visibility of each keypoint")
    return clean


def _numbers(values: Any, where: str, key: str) -> list[float]:
    """`values`, a list of finite numbers."""
    if not isinstance(values, list) or not _are_finite(values):
        raise _refusal(where, key, values, "give finite numbers")
    return values


def _are_finite(values: list[Any]) -> bool:
    if not set(map(type, values)) <= {int, float}:
        return False
    try:
        return bool((np.abs(np.array(values, np.float64)) <= _LARGEST_ID).all())  # not so for NaN
    except OverflowError:
        return False


def _renumbered(entries: list[Entry], notes: Notes) -> list[Entry]:
    """The entries with ids that pycocotools can tell apart: unique, whole and positive."""
    seen: set[int] = set()
    for entry in entries:
        number = entry["id"]
        if type(number) is not int or not 0 < number <= _LARGEST_ID or number in seen:
            correction = "objects renumbered, because an id repeats or is no whole number from 1 up"
            notes.add(correction, f"annotation {one_line(repr(number), 40)}")
            return [entry | {"id": number} for number, entry in enumerate(entries, start=1)]
        seen.add(number)
    return entries


def _mask(value: Any, where: str, size: tuple[int, int], notes: Notes) -> Any:
    """The mask as polygons or as a run-length code; [] if the entry has none."""
    if isinstance(value, dict):
        check_runs(value, where, size)
        return value
    if not isinstance(value, list | None):
        raise _refusal(where, "segmentation", value, "give polygons or a run-length code")
    if value and _are_finite(value):
        notes.add("polygons that were not within a list of polygons", _entry(where))
        value = [value]
    polygons = [_numbers(polygon, where, "segmentation") for polygon in value or ()]
    sound = [polygon for polygon in polygons if len(polygon) >= _POLYGON and len(polygon) % 2 == 0]
    if len(sound) < len(polygons):
        notes.add("polygons left out because they have less than three points", _entry(where))
    return sound


def check_runs(code: Mapping[str, Any], where: str, size: tuple[int, int]) -> None:
    """Raise SameboxError unless a run-length code covers an image of `size` (height, width) exactly.

    pycocotools reads beyond the image, or does not end, for a code whose runs do not add up to its size.
    """
    if code.get("size") != list(size):
        fix = f"the image's height and width are {list(size)}; give the code of the whole image"
        raise _refusal(where, "segmentation.size", code.get("size"), fix)
    counts = code.get("counts")
    runs = _text_runs(counts) if isinstance(counts, str) else _listed_runs(counts)
    if runs is None or runs.min(initial=0) < 0 or runs.sum() != size[0] * size[1]:
        fix = f"its runs do not add up to {size[0]}x{size[1]} pixels; encode the mask again"
        raise _refusal(where, "segmentation.counts", counts, fix)


def _listed_runs(counts: Any) -> NDArray[np.int64] | None:
    if not isinstance(counts, list) or not set(map(type, counts)) <= {int}:
        return None
    return np.array(counts, np.int64) if all(0 <= count < _LARGEST_RUN for count in counts) else None


def _text_runs(text: str) -> NDArray[np.int64] | None:
    """The run lengths of COCO's compressed code, None if it is not one.

    A character holds five bits of a number, lowest first, and whether more follow; from the fourth on, a
    number is the difference to the number two before it (`rleFrString` in COCO's maskApi.c).
    """
    values = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64) - 48
    if not len(values) or values.min() < 0 or values.max() > 63 or values[-1] & 32:
        return None
    ends = np.flatnonzero((values & 32) == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 8:  # 40 bits: more than any image has pixels
        return None
    places = np.arange(len(values)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((values & 31) << (5 * places), starts)
    numbers -= np.where(values[ends] & 16, 1 << (5 * lengths), 0)
    runs = numbers.copy()
    runs[1::2] = numbers[1::2].cumsum()
    runs[2::2] = numbers[2::2].cumsum()
    return runs
