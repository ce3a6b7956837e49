"""Detections drawn into their image."""

import colorsys

import cv2
import numpy as np

from samebox.core.text import one_line
from samebox.postprocess.detections import Detections
from samebox.postprocess.keypoints import PERSON_KEYPOINTS, SKELETON
from samebox.postprocess.panoptic import Panoptic
from samebox.record.preprocess import Image

Colour = tuple[int, int, int]

SCORE_THRESHOLD = 0.3  # detections with a lower score are not drawn by default

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MASK_OPACITY = 0.45


def draw(
    image: Image, detections: Detections, threshold: float = SCORE_THRESHOLD, colour: Colour | None = None
) -> Image:
    """A copy of the image [H,W,3] RGB with the detections whose score is at least the threshold.

    Drawn are the box, class and score of each detection and, if it has them, its outlined mask and its
    keypoints, in `colour` or in the colour of its class. COCO's 17 keypoints of a person are joined by limbs.
    The layers from bottom to top are stuff, masks, boxes, names and keypoints, each with the highest score on
    top. The sizes of lines and letters are proportional to the image.
    """
    drawn = image.copy()
    panoptic = detections.panoptic
    names = [] if panoptic is None else _stuff(drawn, panoptic, len(detections.class_names))
    kept = np.flatnonzero(detections.scores >= threshold)
    kept = kept[np.argsort(detections.scores[kept], kind="stable")]
    paints = [colour or class_colour(label) for label in detections.labels[kept].tolist()]
    if detections.masks is not None:
        for index, paint in zip(kept, paints, strict=True):
            _mask(drawn, detections.masks[index], paint)
    for index, paint in zip(kept, paints, strict=True):
        corner = _box(drawn, detections.boxes[index], paint)
        name = f"{detections.class_names[detections.labels[index]]} {detections.scores[index]:.2f}"
        names.append((name, corner, paint))
    for text, corner, paint in names:
        _label(drawn, text, corner, paint)
    if detections.keypoints is not None:
        for index, paint in zip(kept, paints, strict=True):
            _keypoints(drawn, detections.keypoints[index], detections.boxes[index], paint)
    return drawn


def class_colour(label: int) -> Colour:
    """A vivid colour, RGB 0..255, that differs clearly from those of neighbouring labels."""
    hue = label * 0.6180339887 % 1  # multiples of the golden ratio, modulo 1, are evenly spread
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, (0.95, 0.75)[label // 6 % 2])
    return round(255 * red), round(255 * green), round(255 * blue)


def _line_width(image: Image) -> int:
    return max(1, round(min(image.shape[:2]) / 300))


def _mask(image: Image, mask: np.ndarray, colour: Colour) -> None:
    """Blend the colour into the mask's pixels, and draw the mask's outer and inner edges."""
    blended = (1 - _MASK_OPACITY) * image[mask] + _MASK_OPACITY * np.array(colour)
    image[mask] = blended.round().astype(np.uint8)
    edges, _ = cv2.findContours(np.ascontiguousarray(mask, np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(image, edges, -1, colour, _line_width(image))


def _stuff(image: Image, panoptic: Panoptic, first_label: int) -> list[tuple[str, tuple[int, int], Colour]]:
    """Blend in every segment of stuff. Returns, for each, its name, its innermost pixel x y, and its colour.

    `first_label` is the label of the first class of stuff.
    """
    names = []
    for segment in panoptic.segments:
        if not segment.is_thing:
            mask = panoptic.ids == segment.id
            colour = class_colour(first_label + panoptic.stuff_class_names.index(segment.class_name))
            _mask(image, mask, colour)
            inside = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
            row, column = np.unravel_index(inside.argmax(), inside.shape)
            names.append((segment.class_name, (int(column), int(row)), colour))
    return names


def _keypoints(image: Image, keypoints: np.ndarray, box: np.ndarray, colour: Colour) -> None:
    """Draw keypoints [P,3], x y score, as dots with a white ring; the dots are smaller in a small box."""
    width = _line_width(image)
    dot = min(width, max(1, round(float(min(box[2:] - box[:2])) / 50)))
    places = [(int(x), int(y)) for x, y in np.floor(keypoints[:, :2])]
    if len(places) == PERSON_KEYPOINTS:
        for start, end in SKELETON:
            cv2.line(image, places[start], places[end], colour, width)
    for place in places:
        cv2.circle(image, place, 2 * dot, (255, 255, 255), cv2.FILLED)
        cv2.circle(image, place, dot, colour, cv2.FILLED)


def _box(image: Image, box: np.ndarray, colour: Colour) -> tuple[int, int]:
    """Draw the box x1 y1 x2 y2, and return its upper left corner in whole pixels."""
    x1, y1, x2, y2 = (int(value) for value in np.rint(box))
    cv2.rectangle(image, (x1, y1), (x2, y2), colour, _line_width(image))
    return x1, y1


def _label(image: Image, text: str, corner: tuple[int, int], colour: Colour) -> None:
    """Write the text on a filled field above the corner, or below it if there is no room above."""
    text = one_line(text)  # OpenCV ends the process at a lone surrogate
    height, width = image.shape[:2]
    scale = max(min(height, width) / 1000, 0.4)
    thickness = max(1, round(scale))
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
    field_height = text_height + baseline + 2
    left = min(max(corner[0], 0), max(width - text_width - 4, 0))
    top = corner[1] - field_height if corner[1] >= field_height else max(corner[1], 0)
    cv2.rectangle(image, (left, top), (left + text_width + 3, top + field_height), colour, cv2.FILLED)
    dark = np.dot(colour, (0.299, 0.587, 0.114)) < 140
    origin = (left + 2, top + text_height + 2)
    cv2.putText(image, text, origin, _FONT, scale, (255,) * 3 if dark else (0,) * 3, thickness, cv2.LINE_AA)
