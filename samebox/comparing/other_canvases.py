"""Each form's answers on other canvases against the reference's.

A network sees its padding: on another canvas even the reference answers a little differently. So a form is
not compared with itself there, but with the reference on the same canvas.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samebox.coco.evaluated import EvaluatedForm
from samebox.coco.results import detections_from_results
from samebox.evaluation.agreement import ALIKE, LEAST_SHARE, Agreement, agreement
from samebox.evaluation.checks import agreeing_share, check_entry, check_note

USUAL = 20  # images at most that measure how far a form departs from the reference on its usual canvas

_Answers = dict[int, list[dict[str, Any]]]  # COCO results by image id


def checked_against_reference(forms: Iterable[EvaluatedForm]) -> Iterator[EvaluatedForm]:
    """The forms, each as soon as it comes; the first is the reference.

    The metrics of the others gain the entries of `reference_checks`, and a note for each failed check.
    """
    reference = None
    for form in forms:
        yield _with_entries(form, reference_checks(form, reference)) if reference else form
        reference = reference or form


def _with_entries(form: EvaluatedForm, entries: Sequence[dict[str, Any]]) -> EvaluatedForm:
    if not entries:
        return form
    failed = [check_note(entry["check"], entry["reason"]) for entry in entries if not entry["passed"]]
    added = {
        "invariance": [*form.metrics["invariance"], *entries],
        "notes": [*form.metrics["notes"], *failed],
    }
    return replace(form, metrics=form.metrics | added)


def reference_checks(form: EvaluatedForm, reference: EvaluatedForm) -> list[dict[str, Any]]:
    """An entry for each check on other canvases that both forms answered.

    A runtime and a precision round in their own way on every canvas. So the form must agree with the
    reference as closely as fp32 runtimes do, or else nearly as closely as it does on the usual canvas.
    """
    checks = [check for check in form.other_canvases if check in reference.other_canvases]
    if not checks:
        return []
    limits, share = _limits(_by_image(reference.results), _by_image(form.results))
    pairs = [_pairs(reference.other_canvases[check], form.other_canvases[check]) for check in checks]
    return [
        check_entry(check, of_images, limits, share) for check, of_images in zip(checks, pairs, strict=True)
    ]


def _limits(reference: _Answers, form: _Answers) -> tuple[dict[str, float], float]:
    """How far the form may depart from the reference, and the share of detections that must stay within.

    The limits are twice the 99th percentile of the differences on the usual canvas; three times as many
    detections as there may exceed them.
    """
    some = sorted(reference)[:: len(reference) // USUAL + 1]
    usual = _pairs({number: reference[number] for number in some}, form)
    limits = {
        "box": max(ALIKE["box"], 2 * _percentile([one.box for one in usual])),
        "score": max(ALIKE["score"], 2 * _percentile([one.score for one in usual])),
        "mask": min(
            ALIKE["mask"], 1 - 2 * _percentile([1 - one.mask for one in usual if one.mask is not None])
        ),
        "keypoint": max(
            ALIKE["keypoint"], 2 * _percentile([one.keypoint for one in usual if one.keypoint is not None])
        ),
    }
    return limits, min(LEAST_SHARE, 1 - 3 * (1 - agreeing_share(usual, limits)))


def _percentile(differences: Sequence[NDArray[Any]]) -> float:
    """The 99th percentile of the differences; 0 if there are none."""
    return float(np.quantile(np.concatenate([[0.0], *differences]), LEAST_SHARE))


def _by_image(results: Sequence[dict[str, Any]]) -> _Answers:
    answers: _Answers = {}
    for result in results:
        answers.setdefault(result["image_id"], []).append(result)
    return answers


def _pairs(reference: _Answers, form: _Answers) -> list[Agreement]:
    """The agreement of the answers to each image of the reference."""
    return [_agreement(results, form.get(number, [])) for number, results in reference.items()]


def _agreement(reference: list[dict[str, Any]], form: list[dict[str, Any]]) -> Agreement:
    categories = sorted({result["category_id"] for result in [*reference, *form]})
    names = [str(category) for category in categories]
    ours, theirs = (detections_from_results(results, categories, names) for results in (reference, form))
    return agreement(ours, theirs)
