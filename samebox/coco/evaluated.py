"""What the evaluation of one form of a detector leaves in its folder."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samebox.coco.panoptic import PanopticResults, PanopticSet
from samebox.coco.results import read_results, write_results
from samebox.core.errors import SameboxError
from samebox.core.files import read_json, write_json

_KEYS = ("detector", "model", "runtime", "title", "dataset", "status", "reason", "score", "timing")


@dataclass(frozen=True)
class EvaluatedForm:
    """One form of a detector: its metrics and, where it was measured, its curves and results.

    `metrics` is what metrics.json holds, `curves` the precision by kind of IoU (`bbox`, `segm`,
    `keypoints`), `results` the COCO results at batch 1, and `panoptic` the segments at batch 1 of a detector
    that gives them. `other_canvases` holds, by check of `samebox.evaluation.invariance` and by image id, the
    COCO results of a few images on other canvases.
    """

    metrics: dict[str, Any]
    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)
    panoptic: PanopticResults | PanopticSet | None = None
    other_canvases: dict[str, dict[int, list[dict[str, Any]]]] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        """Whether this form was run; otherwise `metrics["reason"]` says why not."""
        return self.metrics["status"] == "measured"

    @property
    def title(self) -> str:
        """The form as tables name it."""
        return self.metrics["title"]


def read_evaluated(folder: str | Path) -> EvaluatedForm:
    """The evaluated form in a folder. Raises SameboxError where a file or one of its keys is missing."""
    folder = Path(folder)
    metrics = read_json(folder / "metrics.json")
    if missing := [key for key in _KEYS if key not in metrics]:
        raise SameboxError(f"{folder / 'metrics.json'}: no `{missing[0]}`; evaluate again")
    if metrics["status"] != "measured":
        return EvaluatedForm(metrics)
    segments = folder / "panoptic.json"
    return EvaluatedForm(
        metrics,
        read_json(folder / "curves.json"),
        read_results(folder / "detections.json.gz"),
        PanopticSet(segments, folder / "panoptic") if segments.exists() else None,
        _other_canvases(folder / "other_canvases.json"),
    )


def _other_canvases(path: Path) -> dict[str, dict[int, list[dict[str, Any]]]]:
    """What JSON, whose keys are texts, holds under image ids."""
    checks = read_json(path).items() if path.exists() else ()
    return {check: {int(number): found for number, found in by_image.items()} for check, by_image in checks}


def write_evaluated(folder: str | Path, evaluated: EvaluatedForm) -> None:
    """Leave the form in a folder, as `read_evaluated` reads it; metrics.json last, so that it vouches.

    The detections stand there twice: compressed, and as plain JSON for any other COCO tool. Segments are in
    COCO's panoptic format, panoptic.json and the folder panoptic.
    """
    folder = Path(folder)
    if evaluated.measured:
        write_results(folder / "detections.json", evaluated.results)
        write_results(folder / "detections.json.gz", evaluated.results)
        write_json(folder / "curves.json", evaluated.curves)
        write_json(folder / "other_canvases.json", evaluated.other_canvases)
    if isinstance(evaluated.panoptic, PanopticResults):
        evaluated.panoptic.write(folder / "panoptic.json", folder / "panoptic")
    write_json(folder / "metrics.json", evaluated.metrics)
