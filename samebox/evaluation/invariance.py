"""What must not change a detector's answer: the batch, the order in it, the canvas and shape, the runtime.

Within a form an image is held against itself on the same canvas. On another canvas no network gives quite the
same, because its convolutions see the padding: there a form is held against the reference's answer.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samebox.coco.evaluated import Evaluated
from samebox.coco.results import detections_from_results
from samebox.core.errors import SameboxError
from samebox.detector import Detector, filled
from samebox.evaluation.agreement import ALIKE, LEAST_SHARE, Agreement, agreement
from samebox.postprocess.detections import Detections
from samebox.record.preprocess import Batch, Image

# Checks within a form
MIXED, ORDER, EMPTY = "mixed batch", "image order", "image without objects"
# Checks against the reference
PADDING, SHAPES = "padding grown", "other shapes"

GREY = 114  # of the image without objects
SMALLER = 0.75  # of the sides that images are resized to: the other shapes
USUAL = 20  # images at the most that tell how far a form departs from the reference on its usual canvas

_Answers = dict[int, list[dict[str, Any]]]  # COCO results by image id


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
            self.notes.append(note(check, f"not checked: {refusal}"))
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self.add(entry(check, [], ALIKE, 0) | {"agreeing": 0.0, "passed": False, "reason": reason})

    def add(self, found: dict[str, Any]) -> None:
        """Take in an entry, and note it where it did not pass."""
        self.entries.append(found)
        if not found["passed"]:
            self.notes.append(note(found["check"], found["reason"]))


def note(check: str, text: str) -> str:
    """What the table says of a check."""
    return f"invariance, {check}: {text}"


def invariance(detector: Detector, images: Sequence[Image], limits: Limits) -> Invariance:
    """Every check of a form, on `images` [H,W,3] RGB uint8, one or more of them."""
    found, asked = Invariance(), _Asked(detector, _of_two_shapes(images))
    within = {MIXED: asked.mixed_batch, ORDER: asked.image_order, EMPTY: asked.image_without_objects}
    for check, pairs in within.items():
        with found.of(check):
            found.add(entry(check, pairs(), asked.alike(limits), limits.share))
    elsewhere = {PADDING: asked.padding_grown, SHAPES: asked.other_shapes}
    for check, answers in elsewhere.items():
        with found.of(check):
            found.answers[check] = answers()
    return found


def entry(
    check: str, pairs: Sequence[Agreement], limits: Mapping[str, float], share: float
) -> dict[str, Any]:
    """What metrics.json says of a check that compared two answers to each image.

    `agreeing` is the share of the detections that keep to `limits`, or of the pixels of an image where that
    is less; `box` and `score` are the largest differences between two detections that were paired.
    """
    least = min(agreeing(pairs, limits), *(one.pixels for one in pairs if one.pixels is not None), 1.0)
    reason = None
    if least < share:
        reason = (
            f"{least:.2%} of the detections agree to {limits['box']:.2g} px and {limits['score']:.2g} in "
            f"score; at least {share:.1%} should"
        )
    elif not any(one.reference or one.found for one in pairs):
        reason = "no detection that could differ"
    return {
        "check": check,
        "images": len(pairs),
        "agreeing": least,
        "box": float(max((one.box.max(initial=0) for one in pairs), default=0)),
        "score": float(max((one.score.max(initial=0) for one in pairs), default=0)),
        "passed": least >= share,
        "reason": reason,
    }


def agreeing(pairs: Sequence[Agreement], limits: Mapping[str, float]) -> float:
    """The share of all detections that keep to `limits`, those of `Agreement.share`; 1 of none."""
    weights = [max(one.reference, one.found) for one in pairs]
    return float(np.average([one.share(**limits) for one in pairs], weights=weights)) if any(weights) else 1.0


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


def held_to_first(forms: Iterable[Evaluated]) -> Iterator[Evaluated]:
    """The forms, with what `against_reference` finds of each but the first, and a note where that failed."""
    reference = None
    for form in forms:
        yield _with(form, against_reference(form, reference)) if reference else form
        reference = reference or form


def _with(form: Evaluated, found: Sequence[dict[str, Any]]) -> Evaluated:
    if not found:
        return form
    failed = [note(one["check"], one["reason"]) for one in found if not one["passed"]]
    added = {
        "invariance": [*form.metrics["invariance"], *found],
        "notes": [*form.metrics["notes"], *failed],
    }
    return replace(form, metrics=form.metrics | added)


def against_reference(form: Evaluated, reference: Evaluated) -> list[dict[str, Any]]:
    """An entry for each check on other canvases that both forms were asked.

    A runtime and a precision round in their own way on every canvas. So the form has to keep to the reference
    as fp32 runtimes do, or else nearly as well as it does on the usual canvas.
    """
    checks = [check for check in form.other_canvases if check in reference.other_canvases]
    if not checks:
        return []
    limits, share = _departure(_by_image(reference.results), _by_image(form.results))
    pairs = [_pairs(reference.other_canvases[check], form.other_canvases[check]) for check in checks]
    return [entry(check, found, limits, share) for check, found in zip(checks, pairs, strict=True)]


def _departure(reference: _Answers, form: _Answers) -> tuple[dict[str, float], float]:
    """The limits within which the form may depart from the reference, and the share that has to keep to them.

    Twice as far as all but the last hundredth go on the usual canvas, and thrice as many beyond that.
    """
    some = sorted(reference)[:: len(reference) // USUAL + 1]
    usual = _pairs({number: reference[number] for number in some}, form)
    limits = {
        "box": max(ALIKE["box"], 2 * _far([one.box for one in usual])),
        "score": max(ALIKE["score"], 2 * _far([one.score for one in usual])),
        "mask": min(ALIKE["mask"], 1 - 2 * _far([1 - one.mask for one in usual if one.mask is not None])),
        "keypoint": max(
            ALIKE["keypoint"], 2 * _far([one.keypoint for one in usual if one.keypoint is not None])
        ),
    }
    return limits, min(LEAST_SHARE, 1 - 3 * (1 - agreeing(usual, limits)))


def _far(differences: Sequence[NDArray[Any]]) -> float:
    """What all but the largest hundredth of the differences keep to; 0 where there are none."""
    return float(np.quantile(np.concatenate([[0.0], *differences]), LEAST_SHARE))


def _by_image(results: Sequence[dict[str, Any]]) -> _Answers:
    found: _Answers = {}
    for result in results:
        found.setdefault(result["image_id"], []).append(result)
    return found


def _pairs(reference: _Answers, form: _Answers) -> list[Agreement]:
    """The agreement of the answers to each image of the reference."""
    return [_pair(results, form.get(number, [])) for number, results in reference.items()]


def _pair(reference: list[dict[str, Any]], form: list[dict[str, Any]]) -> Agreement:
    categories = sorted({result["category_id"] for result in [*reference, *form]})
    names = [str(category) for category in categories]
    ours, theirs = (detections_from_results(results, categories, names) for results in (reference, form))
    return agreement(ours, theirs)
