import numpy as np
import pytest

from samebox.coco.evaluated import EvaluatedForm
from samebox.coco.results import encode_masks
from samebox.comparing.other_canvases import checked_against_reference, reference_checks
from samebox.evaluation.invariance import MIXED, PADDING, SHAPES


def results(image, shift=0.0, count=10, score=0.0):
    """Boxes of 20x20 pixels side by side."""
    return [
        {
            "image_id": image,
            "category_id": 3,
            "bbox": [40 * i + shift, 0, 20, 20],
            "score": 0.9 - i / 20 + score,
        }
        for i in range(count)
    ]


def form(usual=(), padding=None, shapes=None, title="ONNX Runtime"):
    """A form with ten detections per image; `usual`, `padding` and `shapes` are their differences."""
    other_canvases = {PADDING: padding, SHAPES: shapes}
    return EvaluatedForm(
        {"title": title, "invariance": [{"check": MIXED, "passed": True}], "notes": ["a note"]},
        results=[one for image in range(8) for one in results(image, **dict(usual))],
        other_canvases={
            check: {image: results(image, **differs) for image in (0, 3, 5, 7)}
            for check, differs in other_canvases.items()
            if differs is not None
        },
    )


REFERENCE = form(padding={}, shapes={}, title="PyTorch")
INT8 = {"shift": 1.5, "score": 0.02}


@pytest.mark.parametrize(
    ("usual", "padding", "shapes", "passed"),
    [
        ({}, {}, {"shift": 0.09, "score": 5e-4}, [True, True]),
        ({}, {"shift": 0.2}, {"score": 0.01}, [False, False]),
        ({}, {}, {"count": 9}, [True, False]),
        (INT8, INT8, {"shift": 2.5, "score": -0.03}, [True, True]),  # larger, as on the usual canvas
        (INT8, {"shift": 4.0}, INT8 | {"count": 7}, [False, False]),
        ({"count": 9}, {"count": 9}, {"count": 6}, [True, False]),
    ],
)
def test_a_form_is_compared_with_the_reference_as_on_the_usual_canvas(usual, padding, shapes, passed):
    entries = reference_checks(form(usual, padding, shapes), REFERENCE)
    assert [entry["check"] for entry in entries] == [PADDING, SHAPES]
    assert [entry["passed"] for entry in entries] == passed
    assert all((entry["reason"] is None) == entry["passed"] for entry in entries)
    assert {entry["images"] for entry in entries} == {4}
    assert entries[0]["box"] == pytest.approx(padding.get("shift", 0), abs=1e-4)


def test_a_form_without_detections_on_another_canvas_fails():
    (entry,) = reference_checks(form(padding={"count": 0}), REFERENCE)
    assert (entry["agreeing"], entry["passed"]) == (0, False)


def test_masks_are_compared():
    whole, cut = (encode_masks(np.arange(20)[None, :, None].repeat(400, 2) < rows)[0] for rows in (20, 12))
    reference, other = form(padding={}), form(padding={})
    for one, mask in ((reference, whole), (other, cut)):
        for result in (result for found in one.other_canvases[PADDING].values() for result in found):
            result["segmentation"] = mask
    assert [entry["passed"] for entry in reference_checks(reference, reference)] == [True]
    assert [entry["passed"] for entry in reference_checks(other, reference)] == [False]


def test_the_first_form_is_the_reference_of_the_others():
    bare = EvaluatedForm({"title": "TensorRT", "invariance": None, "notes": []})
    wrong = form(padding={"shift": 1.0}, shapes={})
    first, second, third = checked_against_reference([REFERENCE, wrong, bare])
    assert (first, third) == (REFERENCE, bare)
    assert [entry["check"] for entry in second.metrics["invariance"]] == [MIXED, PADDING, SHAPES]
    reason = second.metrics["invariance"][1]["reason"]
    assert reason.startswith("0.00% of the detections agree to 0.1 px")
    assert second.metrics["notes"] == ["a note", f"invariance, {PADDING}: {reason}"]
    assert wrong.metrics["notes"] == ["a note"]
