"""Checks that a form's detections do not depend on the batch, the order in it, the canvas or the shape.

Within a form, the detections of an image are compared with those of the same image on the same canvas. On
another canvas every network answers slightly differently, because its convolutions see the padding; so these
detections are compared with the reference's, in samebox/comparing/other_canvases.py.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from samebox.core.errors import SameboxError
from samebox.detector import Detector, padded_batch
from samebox.evaluation.agreement import ALIKE, Agreement, agreement
from samebox.evaluation.checks import check_entry, check_note
from samebox.postprocess.detections import Detections
from samebox.record.preprocess import Batch, Image

# Checks within a form
MIXED, ORDER, EMPTY = "mixed batch", "image order", "image without objects"
# Checks against the reference, on other canvases
PADDING, SHAPES = "padding grown", "other shapes"

GREY = 114  # value of all pixels of the image without objects
SMALLER = 0.75  # factor on the resize scale for the check of other shapes


@dataclass(frozen=True)
class InvarianceLimits:
    """How many `images` are checked (0: none), and how far the detections of an image may differ.

    At least `share` of the detections must stay within `box` pixels and `score`, with a mask IoU of at least
    `mask`.
    """

    images: int
    box: float
    score: float
    mask: float
    share: float

    def __post_init__(self) -> None:
        """Raises SameboxError for a number of images below 0, and for a share outside 0..1."""
        if self.images < 0:
            raise SameboxError(f"evaluate.invariance.images: {self.images}: give a number from 0 up")
        if not 0 <= self.share <= 1:
            raise SameboxError(f"evaluate.invariance.share: {self.share}: give a number from 0 to 1")


@dataclass
class InvarianceResult:
    """The outcome of the checks of one form.

    `entries`: the checks within the form, and any check that ended in an error. `notes`: failed checks, and
    checks that the form cannot be given. `other_canvases`: by check, the detections of the sample's images on
    other canvases, which are compared with the reference's later.
    """

    entries: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    other_canvases: dict[str, list[Detections]] = field(default_factory=dict)

    @contextmanager
    def checking(self, check: str) -> Iterator[None]:
        """Record an error: a SameboxError means that the form refuses the input, any other is a failure."""
        try:
            yield
        except SameboxError as refusal:
            self.notes.append(check_note(check, f"not checked: {refusal}"))
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self.add(check_entry(check, [], ALIKE, 0) | {"agreeing": 0.0, "passed": False, "reason": reason})

    def add(self, entry: dict[str, Any]) -> None:
        """Add an entry, and a note if the check did not pass."""
        self.entries.append(entry)
        if not entry["passed"]:
            self.notes.append(check_note(entry["check"], entry["reason"]))


def check_answers(detector: Detector, images: Sequence[Image], limits: InvarianceLimits) -> InvarianceResult:
    """All checks of a form, on one or more `images` [H,W,3] RGB uint8."""
    result, checks = InvarianceResult(), _Checks(detector, _of_two_shapes(images))
    within = {MIXED: checks.mixed_batch, ORDER: checks.image_order, EMPTY: checks.image_without_objects}
    for check, agreements in within.items():
        with result.checking(check):
            result.add(check_entry(check, agreements(), checks.agreement_limits(limits), limits.share))
    elsewhere = {PADDING: checks.padding_grown, SHAPES: checks.other_shapes}
    for check, detections in elsewhere.items():
        with result.checking(check):
            result.other_canvases[check] = detections()
    return result


def _of_two_shapes(images: Sequence[Image]) -> list[Image]:
    """The images; if all have one shape, as those of a camera do, every second is rotated by 90°."""
    same_shape = len({image.shape for image in images}) == 1
    return [_rotated(image) if same_shape and index % 2 else image for index, image in enumerate(images)]


def _rotated(image: Image) -> Image:
    return np.ascontiguousarray(np.rot90(image))


class _Checks:
    """The checks of a detector on `images`, a method each."""

    def __init__(self, detector: Detector, images: Sequence[Image]) -> None:
        self._detector, self._images = detector, images
        self._has_boxes = True

    def agreement_limits(self, limits: InvarianceLimits) -> dict[str, float]:
        """How far agreeing detections may differ. Boxes around masks may differ by any number of pixels.

        A single pixel of a mask moves such a box.
        """
        box = limits.box if self._has_boxes else math.inf
        return ALIKE | {"box": box, "score": limits.score, "mask": limits.mask}

    def mixed_batch(self) -> list[Agreement]:
        """Each image alone, on the canvas of the batch, against the same image in the batch."""
        images, batch, in_batch = self._several()
        return list(map(agreement, (self._alone(image, _canvas(batch)) for image in images), in_batch))

    def image_order(self) -> list[Agreement]:
        """The batch against the same batch with the first image last."""
        images, _, in_order = self._several()
        reordered = self._detections(self._detector.preprocess([*images[1:], images[0]]))
        return list(map(agreement, [*in_order[1:], in_order[0]], reordered))

    def image_without_objects(self) -> list[Agreement]:
        """A grey image in place of the first image, against the same image alone; and its neighbours."""
        images, batch, in_batch = self._largest_batch
        grey = np.full_like(images[0], GREY)
        beside_grey = self._detections(self._detector.preprocess([grey, *images[1:]]))
        return list(map(agreement, [self._alone(grey, _canvas(batch)), *in_batch[1:]], beside_grey))

    def padding_grown(self) -> list[Detections]:
        """Each image alone on a square canvas, like that of a batch of landscape and portrait images."""
        if fixed := self._detector.spec.preprocess.canvas:
            raise SameboxError("the canvas is fixed at {}x{}".format(*fixed))
        sides = [max(_canvas(self._detector.preprocess([image]))) for image in self._images]
        return [self._alone(image, (side, side)) for image, side in zip(self._images, sides, strict=True)]

    def other_shapes(self) -> list[Detections]:
        """Each image rotated by 90°, and resized to a smaller size unless the canvas is fixed."""
        rule = self._detector.spec.preprocess
        if rule.resize and not rule.canvas:
            width, height = (int(SMALLER * side) for side in rule.resize.scale)
            rule = replace(rule, resize=replace(rule.resize, scale=(width, height)))
        return [self._detections(rule([_rotated(image)]))[0] for image in self._images]

    @cached_property
    def _largest_batch(self) -> tuple[list[Image], Batch, list[Detections]]:
        """As many images, from the first on, as the form accepts in one batch; the batch; its detections."""
        images = list(self._images[: self._detector.runner.batch])
        while True:
            try:
                batch = self._detector.preprocess(images)
                return images, batch, self._detections(batch)
            except SameboxError:
                if len(images) == 1:
                    raise
                images.pop()

    def _several(self) -> tuple[list[Image], Batch, list[Detections]]:
        """`_largest_batch`; raises SameboxError if that is a single image."""
        if len(self._largest_batch[0]) < 2:
            raise SameboxError("one image at a time" if len(self._images) > 1 else "there is one image")
        return self._largest_batch

    def _alone(self, image: Image, canvas: tuple[int, int]) -> Detections:
        return self._detections(self._detector.preprocess([image], canvas))[0]

    def _detections(self, batch: Batch) -> list[Detections]:
        """The detections of each image. Raises FloatingPointError if an output is not finite."""
        size = self._detector.runner.batch or len(batch.sizes)
        outputs = self._detector.runner(padded_batch(batch, size).inputs())
        for name, output in outputs.items():
            if not np.isfinite(output).all():
                raise FloatingPointError(f"{name} has numbers that are not finite")
        self._has_boxes = "boxes" in outputs
        return self._detector.postprocess(outputs, batch)


def _canvas(batch: Batch) -> tuple[int, int]:
    """Height and width."""
    height, width = batch.images.shape[2:]
    return height, width
