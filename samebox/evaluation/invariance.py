"""What must not change a detector's answer: the batch, the order in it, the canvas and shape, the runtime.

Within a form an image is held against itself on the same canvas. On another canvas no network gives quite the
same, because its convolutions see the padding: there a form is held against the reference's answer.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from samebox.core.errors import SameboxError
from samebox.detector import Detector, filled
from samebox.evaluation.agreement import ALIKE, Agreement, agreement
from samebox.evaluation.checks import check_entry, check_note
from samebox.postprocess.detections import Detections
from samebox.record.preprocess import Batch, Image

# Checks within a form
MIXED, ORDER, EMPTY = "mixed batch", "image order", "image without objects"
# Checks against the reference, on other canvases: samebox/comparing/other_canvases.py
PADDING, SHAPES = "padding grown", "other shapes"

GREY = 114  # of the image without objects
SMALLER = 0.75  # of the sides that images are resized to: the other shapes


@dataclass(frozen=True)
class Limits:
    """How many `images` are checked, none at 0, and how far an image's answer may differ from itself.

    `share` of the detections, at the least, keep to `box` pixels and `score`, and to an IoU of `mask`.
    """

    images: int
    box: float
    score: float
    mask: float
    share: float

    def __post_init__(self) -> None:
        """Raises SameboxError for a number of images below 0, and for a share that is none."""
        if self.images < 0:
            raise SameboxError(f"evaluate.invariance.images: {self.images}: give a number from 0 up")
        if not 0 <= self.share <= 1:
            raise SameboxError(f"evaluate.invariance.share: {self.share}: give a number from 0 to 1")


@dataclass
class Invariance:
    """What the checks of one form came to.

    `entries` of those made within the form, and of any that ended in an error; `notes` on what failed and on
    what the form cannot be asked; `answers`, by check, to the images of the sample on other canvases.
    """

    entries: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    answers: dict[str, list[Detections]] = field(default_factory=dict)

    @contextmanager
    def of(self, check: str) -> Iterator[None]:
        """Go on after an error: a SameboxError tells what the form does not take, any other is a failure."""
        try:
            yield
        except SameboxError as refusal:
            self.notes.append(check_note(check, f"not checked: {refusal}"))
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self.add(check_entry(check, [], ALIKE, 0) | {"agreeing": 0.0, "passed": False, "reason": reason})

    def add(self, found: dict[str, Any]) -> None:
        """Take in an entry, and note it where it did not pass."""
        self.entries.append(found)
        if not found["passed"]:
            self.notes.append(check_note(found["check"], found["reason"]))


def invariance(detector: Detector, images: Sequence[Image], limits: Limits) -> Invariance:
    """Every check of a form, on `images` [H,W,3] RGB uint8, one or more of them."""
    found, asked = Invariance(), _Asked(detector, _of_two_shapes(images))
    within = {MIXED: asked.mixed_batch, ORDER: asked.image_order, EMPTY: asked.image_without_objects}
    for check, pairs in within.items():
        with found.of(check):
            found.add(check_entry(check, pairs(), asked.alike(limits), limits.share))
    elsewhere = {PADDING: asked.padding_grown, SHAPES: asked.other_shapes}
    for check, answers in elsewhere.items():
        with found.of(check):
            found.answers[check] = answers()
    return found


def _of_two_shapes(images: Sequence[Image]) -> list[Image]:
    """The images; where all are of one shape, as a camera gives them, every second turned by a quarter."""
    alike = len({image.shape for image in images}) == 1
    return [_turned(image) if alike and index % 2 else image for index, image in enumerate(images)]


def _turned(image: Image) -> Image:
    return np.ascontiguousarray(np.rot90(image))


class _Asked:
    """The questions that a form is asked of `images`."""

    def __init__(self, detector: Detector, images: Sequence[Image]) -> None:
        self._detector, self._images = detector, images
        self._boxes = True

    def alike(self, limits: Limits) -> dict[str, float]:
        """How far detections that agree may differ; boxes around masks, which single pixels move, by any."""
        box = limits.box if self._boxes else math.inf
        return ALIKE | {"box": box, "score": limits.score, "mask": limits.mask}

    def mixed_batch(self) -> list[Agreement]:
        """Each image alone, on the batch's canvas, against the same in the batch."""
        images, batch, answers = self._several()
        return list(map(agreement, (self._alone(image, _canvas(batch)) for image in images), answers))

    def image_order(self) -> list[Agreement]:
        """The batch against the same with the first image last."""
        images, _, answers = self._several()
        found = self._answers(self._detector.prepare([*images[1:], images[0]]))
        return list(map(agreement, [*answers[1:], answers[0]], found))

    def image_without_objects(self) -> list[Agreement]:
        """A grey image alone against the same in the batch in place of the first, and its neighbours."""
        images, batch, answers = self._together
        grey = np.full_like(images[0], GREY)
        found = self._answers(self._detector.prepare([grey, *images[1:]]))
        return list(map(agreement, [self._alone(grey, _canvas(batch)), *answers[1:]], found))

    def padding_grown(self) -> list[Detections]:
        """Each image alone on a square canvas, as a batch of lying and upright images has it."""
        if fixed := self._detector.spec.preprocess.canvas:
            raise SameboxError("the canvas is fixed at {}x{}".format(*fixed))
        sides = [max(_canvas(self._detector.prepare([image]))) for image in self._images]
        return [self._alone(image, (side, side)) for image, side in zip(self._images, sides, strict=True)]

    def other_shapes(self) -> list[Detections]:
        """Each image turned by a quarter, and smaller where the canvas is not fixed."""
        rule = self._detector.spec.preprocess
        if rule.resize and not rule.canvas:
            width, height = (int(SMALLER * side) for side in rule.resize.scale)
            rule = replace(rule, resize=replace(rule.resize, scale=(width, height)))
        return [self._answers(rule([_turned(image)]))[0] for image in self._images]

    @cached_property
    def _together(self) -> tuple[list[Image], Batch, list[Detections]]:
        """The most of the images, from the first, that the form takes as one batch, and its answers."""
        images = list(self._images[: self._detector.runner.batch])
        while True:
            try:
                batch = self._detector.prepare(images)
                return images, batch, self._answers(batch)
            except SameboxError:
                if len(images) == 1:
                    raise
                images.pop()

    def _several(self) -> tuple[list[Image], Batch, list[Detections]]:
        """`_together`, of two images at the least."""
        if len(self._together[0]) < 2:
            raise SameboxError("one image at a time" if len(self._images) > 1 else "there is one image")
        return self._together

    def _alone(self, image: Image, canvas: tuple[int, int]) -> Detections:
        return self._answers(self._detector.prepare([image], canvas))[0]

    def _answers(self, batch: Batch) -> list[Detections]:
        """The detections of each image. Raises FloatingPointError where an output is not finite."""
        size = self._detector.runner.batch or len(batch.sizes)
        outputs = self._detector.runner(filled(batch, size).inputs())
        for name, output in outputs.items():
            if not np.isfinite(output).all():
                raise FloatingPointError(f"{name} has numbers that are not finite")
        self._boxes = "boxes" in outputs
        return self._detector.finish(outputs, batch)


def _canvas(batch: Batch) -> tuple[int, int]:
    """Height and width."""
    height, width = batch.images.shape[2:]
    return height, width
