"""Panoptic segmentation: each pixel of the image gets an object or a class of stuff.

Follows the inference of Panoptic FPN (Kirillov et al., 2019, arXiv:1901.02446) in detectron2.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samebox.core.errors import SameboxError
from samebox.postprocess.masks import resize_from_canvas
from samebox.record.decoding import PanopticRule


@dataclass(frozen=True)
class Segment:
    """One segment: an object (thing) with its score, or all pixels of one class of stuff, without a score."""

    id: int
    class_name: str
    is_thing: bool
    score: float | None = None


@dataclass(frozen=True)
class Panoptic:
    """The segments of one image, at its original size.

    `ids` [H,W] int32: the id of each pixel's segment, 0 for none. `classes` [H,W]: the class that the
    semantic head gives each pixel, before objects are laid over it; 0 for things, i for the stuff class
    `stuff_class_names[i - 1]`.
    """

    ids: NDArray[np.int32]
    segments: tuple[Segment, ...]
    classes: NDArray[np.unsignedinteger]
    stuff_class_names: tuple[str, ...]


def class_map(
    logits: NDArray[np.float32], size: tuple[int, int], height: int, width: int
) -> NDArray[np.unsignedinteger]:
    """Logits [S,h,w] over a canvas → the class of each pixel [height,width] of the image on it.

    As in detectron2, each map is resized by `resize_from_canvas`; the class is that of the largest value, the
    first of equal ones. `size` is the image's (height, width) on the canvas.
    """
    highest = np.full((height, width), -np.inf, np.float32)
    classes = np.zeros((height, width), np.min_scalar_type(len(logits) - 1))
    for index, values in enumerate(logits):  # class by class: all at once would take 50 times the memory
        resized = resize_from_canvas(values, size, height, width)
        classes[resized > highest] = index
        np.maximum(highest, resized, out=highest)
    return classes


def merge_segments(
    masks: NDArray[np.bool_],
    scores: NDArray[np.float32],
    names: list[str],
    classes: NDArray[np.unsignedinteger],
    rule: PanopticRule,
) -> Panoptic:
    """Objects by descending score and the class of each pixel → segments, by `rule`.

    `masks` [N,H,W], `scores` [N] and the class `names` of the objects; `classes` [H,W] from `class_map`. An
    object takes the pixels that no object of a higher score has. It is dropped if those have a larger share
    of its mask than `rule.overlap`, if its score is below `rule.score`, or if its mask is empty. Of the
    remaining pixels, each class of stuff becomes one segment if it has at least `rule.stuff_area` pixels.
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


def same_class_share(a: Panoptic, b: Panoptic) -> float:
    """The share of the pixels that have a segment of the same class in both, or no segment in both."""
    return float((_class_names(a) == _class_names(b)).mean())


def _class_names(panoptic: Panoptic) -> NDArray[np.str_]:
    """The class name of each pixel's segment [H·W], empty for none."""
    names = {segment.id: segment.class_name for segment in panoptic.segments}
    numbers, places = np.unique(panoptic.ids, return_inverse=True)
    return np.array([names.get(number, "") for number in numbers.tolist()])[places.reshape(-1)]


def check_classes(logits: NDArray[np.float32], rule: PanopticRule) -> None:
    """Raises SameboxError unless the logits [B,S,h,w] are for things and the classes that the rule names."""
    if logits.shape[1] != 1 + len(rule.stuff_class_names):
        raise SameboxError(
            f"decoding.panoptic.stuff_class_names: {len(rule.stuff_class_names)} names for a network with "
            f"{logits.shape[1] - 1} classes of stuff; name each class"
        )
