"""The entries in metrics.json and the notes under the table about checks of invariance."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from samebox.evaluation.agreement import Agreement


def check_entry(
    check: str, pairs: Sequence[Agreement], limits: Mapping[str, float], share: float
) -> dict[str, Any]:
    """The entry in metrics.json for a check that compared two sets of detections of each image.

    `agreeing` is the share of the detections within `limits`, or the share of an image's pixels in segments
    of the same class if that is smaller. `box` (pixels) and `score` are the largest differences within a pair
    of detections. The check passes if `agreeing` is at least `share`.
    """
    least = min(agreeing_share(pairs, limits), *(one.pixels for one in pairs if one.pixels is not None), 1.0)
    reason = None
    if least < share:
        reason = (
            f"{least:.2%} of the detections agree to {limits['box']:.2g} px and {limits['score']:.2g} in "
            f"score; at least {share:.1%} should"
        )
    elif not any(one.reference or one.other for one in pairs):
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


def agreeing_share(pairs: Sequence[Agreement], limits: Mapping[str, float]) -> float:
    """The share of all detections within `limits`, by `Agreement.share`; 1 if there are no detections."""
    weights = [max(one.reference, one.other) for one in pairs]
    return float(np.average([one.share(**limits) for one in pairs], weights=weights)) if any(weights) else 1.0


def check_note(check: str, text: str) -> str:
    """The note under the table about a check."""
    return f"invariance, {check}: {text}"
