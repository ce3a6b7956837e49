"""Panoptic segmentation after the network: every pixel of the image to one object or one class of stuff."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from samebox.core.errors import SameboxError
from samebox.record.decoding import PanopticRule

STRIDE = 4  # of the logits, in pixels of the canvas


@dataclass(frozen=True)
class Segment:
    """One segment: an object (thing) with its score, or all that is of one class of stuff, without."""

    id: int
    class_name: str
    is_thing: bool
    score: float | None = None


@dataclass(frozen=True)
class Panoptic:
    """The segments of one image, at its original size.

    `ids` [H,W] int32 are the ids of `segments`, 0 where there is none. `classes` [H,W] are what the semantic
    head says of each pixel, before objects were laid over it: 0 for things, i for the stuff class i - 1 of
    `stuff_class_names`.
    """

    ids: NDArray[np.int32]
    segments: tuple[Segment, ...]
    classes: NDArray[np.unsignedinteger]
    stuff_class_names: tuple[str, ...]


def class_map(
    logits: NDArray[np.float32], canvas: tuple[int, int], height: int, width: int
) -> NDArray[np.unsignedinteger]:
    """Logits [S,h,w] over a canvas → the class of each pixel [height,width] of the image on it.

    As detectron2 does: each map is enlarged to STRIDE times h and w, cropped to the image's own (height,
    width) on the `canvas` and resized to its original one, bilinearly; the class is that of the largest, of
    equal ones the first.
    """
    enlarged = STRIDE * logits.shape[2], STRIDE * logits.shape[1]  # width and height, as OpenCV has it
    most = np.full((height, width), -np.inf, np.float32)
    classes = np.zeros((height, width), np.min_scalar_type(len(logits) - 1))
    for index, values in enumerate(logits):  # a class at a time: all of them would take 50 times the memory
        whole = cv2.resize(values, enlarged, interpolation=cv2.INTER_LINEAR)
        own = np.ascontiguousarray(whole[: canvas[0], : canvas[1]])
        resized = cv2.resize(own, (width, height), interpolation=cv2.INTER_LINEAR)
        classes[resized > most] = index
        np.maximum(most, resized, out=most)
    return classes


def merged(
    masks: NDArray[np.bool_],
    scores: NDArray[np.float32],
    names: list[str],
    classes: NDArray[np.unsignedinteger],
    rule: PanopticRule,
) -> Panoptic:
    """Objects, by descending score, and the class of each pixel → segments, by `rule`.

    `masks` [N,H,W], `scores` [N], the class `names` of the objects, `classes` [H,W] as `class_map` gives
    them. An object takes the pixels that no better one has, and is left out where better ones have more of
    its mask than `rule.overlap`; so is one below `rule.score`, or without a pixel. Of what remains each class
    of stuff is one segment, if it has `rule.stuff_area` pixels.
    """
    ids = np.zeros(classes.shape, np.int32)
    segments: list[Segment] = []
    for mask, score, name in zip(masks, scores.tolist(), names, strict=True):
        if score < rule.score:
            break
        free = mask & (ids == 0)
        area = np.count_nonzero(mask)
        if area == 0 or (area - np.count_nonzero(free)) / area > rule.overlap:
            continue
        segments.append(Segment(len(segments) + 1, name, True, score))
        ids[free] = segments[-1].id
    for index, name in enumerate(rule.stuff_class_names, start=1):
        free = (classes == index) & (ids == 0)
        if (area := np.count_nonzero(free)) and area >= rule.stuff_area:
            segments.append(Segment(len(segments) + 1, name, False))
            ids[free] = segments[-1].id
    return Panoptic(ids, tuple(segments), classes, rule.stuff_class_names)


def alike(a: Panoptic, b: Panoptic) -> float:
    """The share of the pixels that both give to a segment of the same class, or both to none."""
    return float((_class_names(a) == _class_names(b)).mean())


def _class_names(panoptic: Panoptic) -> NDArray[np.str_]:
    """The class of each pixel's segment [P], empty where there is none."""
    names = {one.id: one.class_name for one in panoptic.segments}
    numbers, places = np.unique(panoptic.ids, return_inverse=True)
    return np.array([names.get(number, "") for number in numbers.tolist()])[places.reshape(-1)]


def check_classes(logits: NDArray[np.float32], rule: PanopticRule) -> None:
    """Raise SameboxError unless the logits [B,S,h,w] are of things and of the classes that the rule names."""
    if logits.shape[1] != 1 + len(rule.stuff_class_names):
        raise SameboxError(
            f"decoding.panoptic.stuff_class_names: {len(rule.stuff_class_names)} names for a network of "
            f"{logits.shape[1] - 1} classes of stuff; name each"
        )
