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
    Limits,
    invariance,
)
from samebox.record.preprocess import Preprocess, Resize
from samebox.record.spec import METADATA_KEY, Spec
from samebox.runners.torch import TorchRunner

LIMITS = Limits(images=4, box=0.05, score=1e-3, mask=0.99, share=0.99)


class Quarters:
    """Finds the quarters of an image in which anything is to be seen, each the surer the lighter it is."""

    name, batch = "quarters", None

    def __init__(self, **rule):
        spec = Spec("quarters", ("a",), Preprocess(Resize((64, 48)), 8, **rule), {}, "0" * 64)
        self.metadata = {METADATA_KEY: spec.to_json()}
        self.asked = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def __call__(self, inputs):
        self.asked.append(inputs["images"].shape)
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
    """Takes the first image's size for that of all."""

    def __call__(self, inputs):
        return super().__call__(inputs | {"sizes": np.repeat(inputs["sizes"][:1], len(inputs["sizes"]), 0)})


class Swapped(Quarters):
    """Gives the last image's answer to the first, the first's to the second and so on."""

    def __call__(self, inputs):
        return {name: np.roll(output, 1, axis=0) for name, output in super().__call__(inputs).items()}


class WidestFirst(Quarters):
    """Answers two images wrongly, where the second is the wider one."""

    def __call__(self, inputs):
        outputs, widths = super().__call__(inputs), inputs["sizes"][:2, 1].tolist()
        if widths != sorted(widths, reverse=True):
            outputs["scores"][:2] /= 2
        return outputs


class NeedsObjects(Quarters):
    """Crashes where there is nothing to find."""

    def answer(self, image, size):
        found = super().answer(image, size)
        if not found["scores"].any():
            raise IndexError("nothing\nto gather from")
        return found


class NotANumber(Quarters):
    """Divides by what it finds."""

    def answer(self, image, size):
        found = super().answer(image, size)
        with np.errstate(invalid="ignore"):
            return found | {"boxes": found["boxes"] * (found["scores"] / found["scores"].max())[:, None]}


class Breaks(Quarters):
    """Leaves off at the first image without objects."""

    def __call__(self, inputs):
        outputs = super().__call__(inputs)
        seen = np.cumprod(outputs["scores"].any(1))
        return outputs | {"scores": outputs["scores"] * seen[:, None]}


class Single(Quarters):
    """Of batch 1."""

    batch = 1

    def __call__(self, inputs):
        assert len(inputs["sizes"]) == 1
        return super().__call__(inputs)


class Pair(Quarters):
    """Of batch 2."""

    batch = 2

    def __call__(self, inputs):
        assert len(inputs["sizes"]) == 2
        return super().__call__(inputs)


class Narrow(Quarters):
    """As an engine with a profile: two images, up to 64x64."""

    def __call__(self, inputs):
        batch, _, *sides = inputs["images"].shape
        if batch > 2 or min(sides) < 48:
            raise SameboxError(f"images of shape {inputs['images'].shape} are outside the engine's profile")
        return super().__call__(inputs)


@pytest.fixture(scope="module")
def images():
    """Four of different shapes, the first the widest; every quarter differs from the others."""
    rng = np.random.default_rng(0)
    shapes = [(40, 60), (60, 40), (50, 50), (44, 58)]
    return [
        rng.integers(0, 40 + 60 * index, (*shape, 3)).astype(np.uint8) for index, shape in enumerate(shapes)
    ]


def checked(runner, images):
    return invariance(Detector(runner), images, LIMITS)


def failed(found):
    return [entry["check"] for entry in found.entries if not entry["passed"]]


def test_a_form_that_is_right_passes_every_check(images):
    found = checked(Quarters(), images)
    assert [entry["check"] for entry in found.entries] == [MIXED, ORDER, EMPTY]
    for entry in found.entries:
        assert entry == {
            "check": entry["check"], "images": 4, "agreeing": 1, "box": 0, "score": 0, "passed": True,
            "reason": None,
        }  # fmt: skip
    assert found.notes == []
    assert [len(found.answers[check]) for check in (PADDING, SHAPES)] == [4, 4]
    assert all(len(one) == 4 for answers in found.answers.values() for one in answers)


def test_what_a_form_is_asked(images):
    runner = Quarters()
    checked(runner, images)
    together, alone = (4, 3, 64, 64), (1, 3, 64, 64)
    assert runner.asked[:5] == [together, *[alone] * 4]
    assert runner.asked[5:8] == [
        together,
        together,
        alone,
    ]  # reordered; with a grey image; that one
    assert runner.asked[8:12] == [alone, alone, (1, 3, 48, 48), alone]  # square
    assert runner.asked[12:] == [(1, 3, 48, 32), (1, 3, 32, 48), (1, 3, 40, 40), (1, 3, 48, 40)]  # turned


@pytest.mark.parametrize(
    ("runner", "checks"),
    [
        (FirstSizes, [MIXED, ORDER]),
        (Swapped, [MIXED, EMPTY]),  # but whatever their order
        (WidestFirst, [ORDER]),
        (Breaks, [EMPTY]),
    ],
)
def test_a_planted_fault_is_found(images, runner, checks):
    found = checked(runner(), images)
    assert failed(found) == checks
    for entry, note in zip([one for one in found.entries if not one["passed"]], found.notes, strict=True):
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
def test_an_image_without_objects_that_ends_in_an_error_fails(images, runner, reason):
    found = checked(runner(), images)
    assert failed(found) == [EMPTY]
    assert found.entries[2]["reason"] == reason
    assert found.entries[2]["agreeing"] == 0
    assert found.notes == [f"invariance, {EMPTY}: {reason}"]
    assert set(found.answers) == {PADDING, SHAPES}


def test_a_form_of_one_image_says_what_it_cannot_be_asked(images):
    found = checked(Single(), images)
    assert found.notes == [
        f"invariance, {check}: not checked: one image at a time" for check in (MIXED, ORDER)
    ]
    (alone,) = found.entries
    assert (alone["check"], alone["images"], alone["passed"]) == (EMPTY, 1, True)
    assert alone["reason"] == "no detection that could differ"
    assert set(found.answers) == {PADDING, SHAPES}


def test_a_form_of_two_images_is_asked_two_at_a_time(images):
    found = checked(Pair(), images)
    assert (found.notes, [entry["images"] for entry in found.entries]) == ([], [2, 2, 2])
    assert [len(found.answers[check]) for check in (PADDING, SHAPES)] == [4, 4]


def test_a_form_of_a_fixed_canvas_is_asked_other_shapes_on_it(images):
    runner = Quarters(canvas=(64, 64))
    found = checked(runner, images)
    assert found.notes == [f"invariance, {PADDING}: not checked: the canvas is fixed at 64x64"]
    assert (failed(found), set(found.answers)) == ([], {SHAPES})
    assert {shape[2:] for shape in runner.asked} == {(64, 64)}


def test_an_engine_is_asked_within_its_profile(images):
    found = checked(Narrow(), images)
    assert [entry["images"] for entry in found.entries] == [2, 2, 2]
    (note,) = found.notes
    assert note.startswith(f"invariance, {SHAPES}: not checked: images of shape (1, 3, 48, 32) are outside")
    assert set(found.answers) == {PADDING}


def test_images_of_one_shape_make_a_mixed_batch_too(images):
    same = [images[0], images[0][::-1], images[0][:, ::-1]]
    assert failed(checked(Quarters(), same)) == []
    assert MIXED in failed(checked(FirstSizes(), same))


def test_one_image_makes_no_batch(images):
    found = checked(Quarters(), images[:1])
    assert found.notes == [
        f"invariance, {check}: not checked: there is one image" for check in (MIXED, ORDER)
    ]
    assert [entry["check"] for entry in found.entries] == [EMPTY]


@pytest.mark.parametrize(("images", "share"), [(-1, 0.99), (4, 1.01), (4, -0.1)])
def test_limits_are_numbers_that_make_sense(images, share):
    with pytest.raises(SameboxError, match=r"evaluate\.invariance\.(images|share): .*: give a number from 0"):
        Limits(images, box=0.05, score=1e-3, mask=0.99, share=share)


class WrongSizes(TorchRunner):
    """The demo's network, told that every image is as large as the first."""

    def __call__(self, inputs):
        return super().__call__(inputs | {"sizes": np.repeat(inputs["sizes"][:1], len(inputs["sizes"]), 0)})


@pytest.mark.parametrize(("runner", "checks"), [(TorchRunner, []), (WrongSizes, [MIXED, ORDER])])
def test_the_demos_network_passes_unless_it_is_told_wrong_sizes(shapes, demo_images, runner, checks):
    with Detector(runner(shapes.network, shapes.spec).__enter__()) as detector:
        found = invariance(detector, demo_images[:3], LIMITS)
    assert failed(found) == checks
    assert all(len(one) > 10 for answers in found.answers.values() for one in answers)
