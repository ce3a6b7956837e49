"""Pictures of the images on which a form differs most from the reference, with the detections of both."""

import base64
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from samebox.coco.dataset import CocoDataset, ImageRecord
from samebox.coco.evaluated import EvaluatedForm
from samebox.coco.panoptic import PanopticSet
from samebox.coco.results import detections_from_results
from samebox.comparing.difference import difference
from samebox.media.drawing import draw
from samebox.postprocess.detections import Detections
from samebox.record.preprocess import Image, read_image
from samebox.reporting.section import Section

_PICTURE_SIDE = 560  # pixels of the longer side; small images are enlarged so that names are readable

_Results = list[dict[str, Any]]


@dataclass(frozen=True)
class _Choice:
    """An image to show, and the form to show beside the reference; None if there is no other form."""

    record: ImageRecord
    other: EvaluatedForm | None


def pictures(section: Section, count: int, threshold: float) -> list[dict[str, Any]]:
    """The first `count` images for the template, with the detections of both forms from `threshold` up."""
    return [_picture(section, choice, threshold) for choice in _chosen(section, count)]


def _picture(section: Section, choice: _Choice, threshold: float) -> dict[str, Any]:
    forms = [section.measured[0], *([choice.other] if choice.other else [])]
    results = [
        [result for result in form.results if result["image_id"] == choice.record.id] for form in forms
    ]
    image = read_image(section.dataset.path(choice.record))
    return {
        "name": choice.record.file_name,
        "counts": difference(*results).counts if choice.other else None,
        "sides": [
            _side(section.dataset, form, choice.record, image, of_form, threshold)
            for form, of_form in zip(forms, results, strict=True)
        ],
    }


def _chosen(section: Section, count: int) -> list[_Choice]:
    """The images in the order in which they are shown, each once.

    First the image on which each form differs most from the reference, starting with the form that differs
    most; then each form's second image, and so on. Then the images with the most objects, beside the last
    form.
    """
    if not section.measured:
        return []
    skipped = {entry["file_name"] for form in section.measured for entry in form.metrics["skipped"]}
    records = {record.id: record for record in section.dataset.images if record.file_name not in skipped}
    forms = {form.metrics["runtime"]: form for form in section.measured}
    ranked = sorted(
        (rank, -amount, image, runtime)
        for runtime, differences in section.differences.items()
        for rank, (image, amount) in enumerate(differences.images)
        if image in records
    )
    chosen: dict[int, EvaluatedForm | None] = {}
    for _, _, image, runtime in ranked:
        chosen.setdefault(image, forms[runtime])
    objects = section.dataset.ground_truth.imgToAnns
    last = section.measured[-1] if len(section.measured) > 1 else None
    for image in sorted(records, key=lambda image: (-len(objects[image]), image)):
        chosen.setdefault(image, last)
    return [_Choice(records[image], form) for image, form in list(chosen.items())[:count]]


def _side(
    dataset: CocoDataset,
    form: EvaluatedForm,
    record: ImageRecord,
    image: Image,
    results: _Results,
    threshold: float,
) -> dict[str, Any]:
    """One picture for the template: the image with the detections of a form."""
    detections = detections_from_results(
        results, dataset.category_ids(dataset.class_names), dataset.class_names
    )
    if isinstance(form.panoptic, PanopticSet):
        detections = replace(detections, panoptic=form.panoptic.panoptic(record.id))
    picture, scaled = _resized(image, detections)
    count = int((detections.scores >= threshold).sum())
    height, width = picture.shape[:2]
    return {
        "title": form.title,
        "count": count,
        "width": width,
        "height": height,
        "jpeg": _jpeg(draw(picture, scaled, threshold)),
    }


def _resized(image: Image, detections: Detections) -> tuple[Image, Detections]:
    """The image and its detections at the size of the pictures."""
    height, width = image.shape[:2]
    factor = _PICTURE_SIDE / max(height, width)
    size = round(width * factor), round(height * factor)
    masks = detections.masks
    if masks is not None:
        masks = np.array([_enlarged(mask.astype(np.uint8), size) for mask in masks], bool)
    panoptic = detections.panoptic
    if panoptic is not None:
        ids, classes = (_enlarged(values, size) for values in (panoptic.ids, panoptic.classes))
        panoptic = replace(panoptic, ids=ids, classes=classes)
    keypoints = detections.keypoints
    if keypoints is not None:
        keypoints = keypoints * np.array([factor, factor, 1], np.float32)
    shrinks = factor < 1
    picture = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    boxes = detections.boxes * np.float32(factor)
    scaled = replace(detections, boxes=boxes, masks=masks, panoptic=panoptic, keypoints=keypoints)
    return picture.astype(np.uint8), scaled


def _enlarged(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Values [H,W] at another size (width, height), by nearest neighbours, so that ids are not mixed."""
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_NEAREST))


def _jpeg(image: Image) -> str:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return base64.b64encode(encoded.tobytes()).decode()
