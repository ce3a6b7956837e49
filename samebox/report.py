"""One self-contained HTML page on the forms of one detector or of several."""

import base64
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import cv2
import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from pycocotools import mask as rle

from samebox.coco.dataset import CocoDataset, ImageRecord
from samebox.coco.evaluated import Evaluated
from samebox.coco.panoptic import PanopticSet
from samebox.coco.results import detections_from_results
from samebox.detections import Detections
from samebox.difference import Difference
from samebox.draw import draw
from samebox.keypoints import distances
from samebox.plots import LEVELS, precision_recall, svg
from samebox.preprocess import Image, read_image
from samebox.tables import KINDS, PER_CLASS, Comparison, Intervals, main_measure, measure, named

# Two detections of the same class are alike within these: IoU of boxes and masks, difference of the scores,
# median distance of keypoints, in sides of a square as large as the box.
_ALIKE_IOU = 0.9
_ALIKE_SCORE = 0.05
_ALIKE_DISTANCE = 0.05

_PICTURE_SIDE = 560  # pixels of the longer side: small images are enlarged so that labels can be read

_Results = list[dict[str, Any]]


@dataclass(frozen=True)
class Section:
    """One detector's part of the page: its forms, the reference first, the data set and how to repeat it.

    `commands` are shell lines. `differences` from the reference are by runtime, `intervals` those of ΔAP.
    """

    forms: Sequence[Evaluated]
    dataset: CocoDataset
    commands: Sequence[str]
    differences: Mapping[str, Difference] = field(default_factory=dict)
    intervals: Intervals = field(default_factory=dict)

    @cached_property
    def comparison(self) -> Comparison:
        """The table of the forms."""
        return Comparison([form.metrics for form in self.forms], self.intervals)

    @property
    def measured(self) -> list[Evaluated]:
        """The forms that were run."""
        return [form for form in self.forms if form.measured]


def page(
    sections: Sequence[Section], title: str = "samebox report", images: int = 4, threshold: float = 0.3
) -> str:
    """The page as HTML; it loads nothing from elsewhere, and the same input gives the same page.

    `images` pictures a detector are shown, with the detections whose score is at least `threshold`.
    Raises SameboxError where one of their files is missing.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("samebox", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    parts = [
        {
            "section": section,
            "comparison": section.comparison,
            "summary": summary(section.comparison),
            "plots": _plots(section),
            "pictures": _pictures(section, images, threshold),
            "environment": _environment(section.forms),
        }
        for section in sections
    ]
    return environment.get_template("report.html").render(
        title=title, parts=parts, threshold=threshold, kinds=KINDS, per_class=PER_CLASS
    )


def summary(comparison: Comparison) -> str:
    """What the table says, in a sentence or two."""
    measured = [form for form in comparison.forms if form["status"] == "measured"]
    images = max((form["images"] for form in measured), default=0)
    forms = f"{len(measured)} of {len(comparison.forms)} forms"
    count = f"{forms} measured on {images} images of {comparison.dataset}."
    deltas = {kind: f"{kind}/{main_measure(kind)}_delta" for kind in comparison.kinds}
    losses = [
        (row.values[delta], kind, row.title)
        for kind, delta in deltas.items()
        for row in comparison.rows
        if not isinstance(row.values[delta], str)
    ]
    if not losses:
        return count
    loss, kind, form = min(losses, key=lambda entry: entry[0])
    reference = comparison.forms[0]
    base = measure(reference, kind, 1)
    if round(float(loss), 2) >= 0:
        watched = " or ".join(dict.fromkeys(main_measure(kind) for kind in comparison.kinds))
        return f"{count} None loses {watched} against {reference['title']} ({base:.2f} {named(kind)})."
    return (
        f"{count} The largest loss against {reference['title']} ({base:.2f} {named(kind)}) is "
        f"{-float(loss):.2f}, by {form}."
    )


def _plots(section: Section) -> dict[str, list[Markup]]:
    """The panels of precision over recall, by kind of IoU."""
    detector = section.comparison.detector
    return {
        kind: [
            Markup(svg(precision_recall(section.forms, kind, [level]), f"{detector} {kind} {level}"))
            for level in LEVELS
        ]
        for kind in section.comparison.kinds
        if any(kind in form.curves for form in section.forms)
    }


@dataclass(frozen=True)
class _Choice:
    """An image to show, the form to show beside the reference, and how many detections differ."""

    record: ImageRecord
    other: Evaluated | None
    differing: int


def _pictures(section: Section, count: int, threshold: float) -> list[dict[str, Any]]:
    grouped = {form.title: _by_image(form.results) for form in section.measured}
    pictures = []
    for choice in _chosen(section, grouped, threshold)[:count]:
        shown = [section.measured[0], *([choice.other] if choice.other else [])]
        image = read_image(section.dataset.path(choice.record))
        results = {form.title: grouped[form.title][choice.record.id] for form in shown}
        pictures.append(
            {
                "name": choice.record.file_name,
                "differing": choice.differing,
                "sides": [
                    _side(section.dataset, form, choice.record, image, results[form.title], threshold)
                    for form in shown
                ],
            }
        )
    return pictures


def _chosen(section: Section, grouped: dict[str, dict[int, _Results]], threshold: float) -> list[_Choice]:
    """The images in the order to show them: most differing detections first, then most objects."""
    if not section.measured:
        return []
    reference, *others = section.measured
    skipped = {entry["file_name"] for form in section.measured for entry in form.metrics["skipped"]}
    choices = []
    for record in section.dataset.images:
        here = grouped[reference.title][record.id]
        differing = [_differing(here, grouped[form.title][record.id], threshold) for form in others]
        most = max(differing, default=0)
        other = others[differing.index(most) if most else -1] if others else None
        choices.append(_Choice(record, other, most))
    objects = section.dataset.ground_truth.imgToAnns
    return sorted(
        (choice for choice in choices if choice.record.file_name not in skipped),
        key=lambda choice: (-choice.differing, -len(objects[choice.record.id]), choice.record.id),
    )


def _by_image(results: _Results) -> dict[int, _Results]:
    grouped: dict[int, _Results] = defaultdict(list)
    for result in results:
        grouped[result["image_id"]].append(result)
    return grouped


def _differing(one: _Results, other: _Results, threshold: float) -> int:
    """How many detections of either side that would be shown have none alike on the other side."""
    return _alone(one, other, threshold) + _alone(other, one, threshold)


def _alone(results: _Results, others: _Results, threshold: float) -> int:
    shown = [result for result in results if result["score"] >= threshold]
    if not shown or not others:
        return len(shown)
    same_class = _column(shown, "category_id")[:, None] == _column(others, "category_id")
    score_apart = abs(_column(shown, "score")[:, None] - _column(others, "score"))
    alike = same_class & (_overlap(shown, others) >= _ALIKE_IOU) & (score_apart <= _ALIKE_SCORE)
    if all("keypoints" in result for result in (*shown, *others)):
        alike &= _distance(shown, others) <= _ALIKE_DISTANCE
    return int((~alike.any(1)).sum())


def _overlap(results: _Results, others: _Results) -> np.ndarray:
    """IoU [N,M] of the boxes of N results with M others, or of their masks where those overlap less."""
    crowds = [0] * len(others)
    boxes = rle.iou(_column(results, "bbox"), _column(others, "bbox"), crowds)
    if not all("segmentation" in result for result in (*results, *others)):
        return boxes
    codes, other_codes = ([result["segmentation"] for result in side] for side in (results, others))
    both_empty = np.logical_or.outer(rle.area(codes), rle.area(other_codes)) == 0
    return np.minimum(boxes, np.where(both_empty, 1, rle.iou(codes, other_codes, crowds)))


def _distance(results: _Results, others: _Results) -> np.ndarray:
    """Median distance [N,M] of the keypoints of N results from those of M others, in sides of the N boxes."""
    ours, theirs = (_column(side, "keypoints").reshape(len(side), -1, 3) for side in (results, others))
    sides = np.sqrt(_column(results, "bbox")[:, 2:].prod(1))
    return distances(ours[:, None], theirs) / np.maximum(sides, 1)[:, None]


def _column(results: _Results, key: str) -> np.ndarray:
    return np.array([result[key] for result in results], np.float64)


def _side(
    dataset: CocoDataset,
    form: Evaluated,
    record: ImageRecord,
    image: Image,
    results: _Results,
    threshold: float,
) -> dict[str, Any]:
    """One picture: the image with a form's detections, as the template takes it."""
    detections = detections_from_results(
        results, dataset.category_ids(dataset.class_names), dataset.class_names
    )
    if isinstance(form.panoptic, PanopticSet):
        detections = replace(detections, panoptic=form.panoptic.panoptic(record.id))
    picture, moved = _resized(image, detections)
    shown = int((detections.scores >= threshold).sum())
    height, width = picture.shape[:2]
    return {
        "title": form.title,
        "count": shown,
        "width": width,
        "height": height,
        "jpeg": _jpeg(draw(picture, moved, threshold)),
    }


def _resized(image: Image, detections: Detections) -> tuple[Image, Detections]:
    """The image at the pictures' size, its detections with it."""
    height, width = image.shape[:2]
    factor = _PICTURE_SIDE / max(height, width)
    size = round(width * factor), round(height * factor)
    masks = detections.masks
    if masks is not None:
        masks = np.array([_enlarged(mask.astype(np.uint8), size) for mask in masks], bool)
    panoptic = detections.panoptic
    if panoptic is not None:
        ids, classes = (_enlarged(one, size) for one in (panoptic.ids, panoptic.classes))
        panoptic = replace(panoptic, ids=ids, classes=classes)
    keypoints = detections.keypoints
    if keypoints is not None:
        keypoints = keypoints * np.array([factor, factor, 1], np.float32)
    shrinks = factor < 1
    picture = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    boxes = detections.boxes * np.float32(factor)
    moved = replace(detections, boxes=boxes, masks=masks, panoptic=panoptic, keypoints=keypoints)
    return picture.astype(np.uint8), moved


def _enlarged(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Values [H,W] at another size, width and height, none of them mixed."""
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_NEAREST))


def _jpeg(image: Image) -> str:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return base64.b64encode(encoded.tobytes()).decode()


def _environment(forms: Sequence[Evaluated]) -> dict[str, dict[str, str]]:
    """Hardware and versions: one value where the forms agree, else each with the forms that it is of."""
    return {part: _merged(part, forms) for part in ("hardware", "versions")}


def _merged(part: str, forms: Sequence[Evaluated]) -> dict[str, str]:
    found: dict[str, dict[str, list[str]]] = {}
    known = [form for form in forms if form.metrics[part]]
    for form in known:
        for name, value in form.metrics[part].items():
            found.setdefault(name, {}).setdefault(str(value), []).append(form.title)
    return {name: _agreed(values, len(known)) for name, values in found.items()}


def _agreed(titles_by_value: dict[str, list[str]], forms: int) -> str:
    values = [
        value if len(titles) == forms else f"{value} ({', '.join(titles)})"
        for value, titles in titles_by_value.items()
    ]
    return "; ".join(values)
