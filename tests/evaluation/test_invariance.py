import numpy as np
import pytest

from samebox.core.errors import SameboxError
from samebox.detector import Detector
from samebox.evaluation.invariance import (
    EMPTY,
    MIXED,
    ORDER,
    PADDING,
    SHAPES,
    InvarianceLimits,
    check_answers,
)
from samebox.record.preprocess import Preprocess, Resize
from samebox.record.spec import METADATA_KEY, Spec
from samebox.runners.torch import TorchRunner

LIMITS = InvarianceLimits(images=4, box=0.05, score=1e-3, mask=0.99, share=0.99)


class Quarters:
    """Detects the quarters of an image that are not black; a lighter quarter has a higher score."""

    name, batch = "quarters", None

    def __init__(self, **rule):
        spec = Spec("quarters", ("a",), Preprocess(Resize((64, 48)), 8, **rule), {}, "0" * 64)
        self.metadata = {METADATA_KEY: spec.to_json()}
        self.shapes = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def __call__(self, inputs):
        self.shapes.append(inputs["images"].shape)
        answers = list(map(self.answer, inputs["images"], inputs["sizes"].tolist()))
        return {name: np.stack([one[name] for one in answers]) for name in answers[0]}

    def answer(self, image, size):
        height, width = size
        boxes = np.array(
            [
                (left, top, left + width / 2, top + height / 2)
                for top in (0, height / 2)
                for left in (0, width / 2)
            ]
        )
        parts = [image[:, int(y1) : int(y2), int(x1) : int(x2)] for x1, y1, x2, y2 in boxes]
        scores = [float(part.mean()) / 256 if part.std() > 5 else 0 for part in parts]
        return {
            "boxes": boxes.astype(np.float32),
            "scores": np.array(scores, np.float32),
            "labels": np.zeros(4, np.int64),
        }


class FirstSizes(Quarters):
    """Uses the size of the first image for all."""

    def __call__(self, inputs):
        return super().__call__(inputs | {"sizes": np.repeat(inputs["sizes"][:1], len(inputs["sizes"]), 0)})


class Swapped(Quarters):
    """Returns the outputs of the last image for the first, of the first for the second, and so on."""

    def __call__(self, inputs):
        return {name: np.roll(output, 1, axis=0) for name, output in super().__call__(inputs).items()}


class WidestFirst(Quarters):
    """Halves the scores of the first two images if the second is wider."""

    def __call__(self, inputs):
        outputs, widths = super().__call__(inputs), inputs["sizes"][:2, 1].tolist()
        if widths != sorted(widths, reverse=True):
            outputs["scores"][:2] /= 2
        return outputs


class NeedsObjects(Quarters):
    """Fails if there is nothing to detect."""

    def answer(self, image, size):
        outputs = super().answer(image, size)
        if not outputs["scores"].any():
            raise IndexError("nothing\nto gather from")
        return outputs


class NotANumber(Quarters):
    """Divides by the highest score."""

    def answer(self, image, size):
        outputs = super().answer(image, size)
        with np.errstate(invalid="ignore"):
            relative = outputs["scores"] / outputs["scores"].max()
        return outputs | {"boxes": outputs["boxes"] * relative[:, None]}


class Breaks(Quarters):
    """Returns nothing from the first image without objects on."""

    def __call__(self, inputs):
        outputs = super().__call__(inputs)
        seen = np.cumprod(outputs["scores"].any(1))
        return outputs | {"scores": outputs["scores"] * seen[:, None]}


class Single(Quarters):
    """Has batch 1."""

    batch = 1

    def __call__(self, inputs):
        assert len(inputs["sizes"]) == 1
        return super().__call__(inputs)


class Pair(Quarters):
    """Has batch 2."""

    batch = 2

    def __call__(self, inputs):
        assert len(inputs["sizes"]) == 2
        return super().__call__(inputs)


class Narrow(Quarters):
    """Refuses more than two images and sides below 48, as an engine does outside its profile."""

    def __call__(self, inputs):
        batch, _, *sides = inputs["images"].shape
        if batch > 2 or min(sides) < 48:
            raise SameboxError(f"images of shape {inputs['images'].shape} are outside the engine's profile")
        return super().__call__(inputs)


@pytest.fixture(scope="module")
def images():
    """Four of different shapes, the first the widest; all quarters differ."""
    rng = np.random.default_rng(0)
    shapes = [(40, 60), (60, 40), (50, 50), (44, 58)]
    return [
        rng.integers(0, 40 + 60 * index, (*shape, 3)).astype(np.uint8) for index, shape in enumerate(shapes)
    ]


def checked(runner, images):
    return check_answers(Detector(runner), images, LIMITS)


def failed(result):
    return [entry["check"] for entry in result.entries if not entry["passed"]]


def test_a_correct_form_passes_every_check(images):
    result = checked(Quarters(), images)
    assert [entry["check"] for entry in result.entries] == [MIXED, ORDER, EMPTY]
    for entry in result.entries:
        assert entry == {
            "check": entry["check"], "images": 4, "agreeing": 1, "box": 0, "score": 0, "passed": True,
            "reason": None,
        }  # fmt: skip
    assert result.notes == []
    assert [len(result.other_canvases[check]) for check in (PADDING, SHAPES)] == [4, 4]
    assert all(len(one) == 4 for answers in result.other_canvases.values() for one in answers)


def test_the_shapes_of_the_inputs_of_each_check(images):
    runner = Quarters()
    checked(runner, images)
    together, alone = (4, 3, 64, 64), (1, 3, 64, 64)
    assert runner.shapes[:5] == [together, *[alone] * 4]
    assert runner.shapes[5:8] == [
        together,
        together,
        alone,
    ]  # reordered; with a grey image; the grey image alone
    assert runner.shapes[8:12] == [alone, alone, (1, 3, 48, 48), alone]  # square
    assert runner.shapes[12:] == [(1, 3, 48, 32), (1, 3, 32, 48), (1, 3, 40, 40), (1, 3, 48, 40)]  # turned


@pytest.mark.parametrize(
    ("runner", "checks"),
    [
        (FirstSizes, [MIXED, ORDER]),
        (Swapped, [MIXED, EMPTY]),  # not ORDER: the reordered batch is wrong in the same way
        (WidestFirst, [ORDER]),
        (Breaks, [EMPTY]),
    ],
)
def test_a_planted_fault_fails_its_checks(images, runner, checks):
    result = checked(runner(), images)
    assert failed(result) == checks
    for entry, note in zip([one for one in result.entries if not one["passed"]], result.notes, strict=True):
        assert entry["agreeing"] < 0.9
        assert note == f"invariance, {entry['check']}: {entry['reason']}"
        assert "of the detections agree to 0.05 px and 0.001 in score; at least 99.0% should" in note


@pytest.mark.parametrize(
    ("runner", "reason"),
    [
        (NeedsObjects, "IndexError: nothing to gather from"),
        (NotANumber, "FloatingPointError: boxes has numbers that are not finite"),
    ],
)
def test_an_error_on_an_image_without_objects_is_a_failed_check(images, runner, reason):
    result = checked(runner(), images)
    assert failed(result) == [EMPTY]
    assert result.entries[2]["reason"] == reason
    assert result.entries[2]["agreeing"] == 0
    assert result.notes == [f"invariance, {EMPTY}: {reason}"]
    assert set(result.other_canvases) == {PADDING, SHAPES}


def test_a_form_with_batch_1_has_notes_for_the_checks_it_cannot_be_given(images):
    result = checked(Single(), images)
    assert result.notes == [
        f"invariance, {check}: not checked: one image at a time" for check in (MIXED, ORDER)
    ]
    (alone,) = result.entries
    assert (alone["check"], alone["images"], alone["passed"]) == (EMPTY, 1, True)
    assert alone["reason"] == "no detection that could differ"
    assert set(result.other_canvases) == {PADDING, SHAPES}


def test_a_form_with_batch_2_is_checked_with_two_images(images):
    result = checked(Pair(), images)
    assert (result.notes, [entry["images"] for entry in result.entries]) == ([], [2, 2, 2])
    assert [len(result.other_canvases[check]) for check in (PADDING, SHAPES)] == [4, 4]


def test_a_form_with_a_fixed_canvas_is_checked_with_other_shapes_on_it(images):
    runner = Quarters(canvas=(64, 64))
    result = checked(runner, images)
    assert result.notes == [f"invariance, {PADDING}: not checked: the canvas is fixed at 64x64"]
    assert (failed(result), set(result.other_canvases)) == ([], {SHAPES})
    assert {shape[2:] for shape in runner.shapes} == {(64, 64)}


def test_an_engine_is_checked_within_its_profile(images):
    result = checked(Narrow(), images)
    assert [entry["images"] for entry in result.entries] == [2, 2, 2]
    (note,) = result.notes
    assert note.startswith(f"invariance, {SHAPES}: not checked: images of shape (1, 3, 48, 32) are outside")
    assert set(result.other_canvases) == {PADDING}


def test_images_of_one_shape_are_rotated_to_a_mixed_batch(images):
    same = [images[0], images[0][::-1], images[0][:, ::-1]]
    assert failed(checked(Quarters(), same)) == []
    assert MIXED in failed(checked(FirstSizes(), same))


def test_a_single_image_cannot_be_checked_in_a_batch(images):
    result = checked(Quarters(), images[:1])
    assert result.notes == [
        f"invariance, {check}: not checked: there is one image" for check in (MIXED, ORDER)
    ]
    assert [entry["check"] for entry in result.entries] == [EMPTY]


@pytest.mark.parametrize(("images", "share"), [(-1, 0.99), (4, 1.01), (4, -0.1)])
def test_limits_out_of_range_are_an_error(images, share):
    with pytest.raises(SameboxError, match=r"evaluate\.invariance\.(images|share): .*: give a number from 0"):
        InvarianceLimits(images, box=0.05, score=1e-3, mask=0.99, share=share)


class WrongSizes(TorchRunner):
    """The demo's network with the size of the first image for all."""

    def __call__(self, inputs):
        return super().__call__(inputs | {"sizes": np.repeat(inputs["sizes"][:1], len(inputs["sizes"]), 0)})


@pytest.mark.parametrize(("runner", "checks"), [(TorchRunner, []), (WrongSizes, [MIXED, ORDER])])
def test_the_demos_network_passes_unless_it_gets_wrong_sizes(shapes, demo_images, runner, checks):
    with Detector(runner(shapes.network, shapes.spec).__enter__()) as detector:
        result = check_answers(detector, demo_images[:3], LIMITS)
    assert failed(result) == checks
    assert all(len(one) > 10 for answers in result.other_canvases.values() for one in answers)
