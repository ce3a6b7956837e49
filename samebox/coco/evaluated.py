"""The files that the evaluation of one form of a detector writes to its folder."""

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
    """One form of a detector: its metrics and, if it was measured, its curves and results.

    `metrics`: the content of metrics.json. `curves`: precision over recall by kind (`bbox`, `segm`,
    `keypoints`). `results`: the COCO results at the first batch size. `panoptic`: the segments at the first
    batch size, or None if the detector has none. `other_canvases`: the COCO results of a few images on other
    canvases, by check of `samebox.evaluation.invariance` and by image id.
    """

    metrics: dict[str, Any]
    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)
    panoptic: PanopticResults | PanopticSet | None = None
    other_canvases: dict[str, dict[int, list[dict[str, Any]]]] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        """Whether this form was run; if not, `metrics["reason"]` is the reason."""
        return self.metrics["status"] == "measured"

    @property
    def title(self) -> str:
        """The name of the form in tables."""
        return self.metrics["title"]


def read_evaluated(folder: str | Path) -> EvaluatedForm:
    """The evaluated form in a folder. Raises SameboxError if a file or one of its keys is missing."""
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
    """Restores the image ids, which JSON holds as strings."""
    checks = read_json(path).items() if path.exists() else ()
    return {
        check: {int(number): results for number, results in by_image.items()} for check, by_image in checks
    }


def write_evaluated(folder: str | Path, evaluated: EvaluatedForm) -> None:
    """Write the form to a folder, as `read_evaluated` reads it.

    metrics.json is written last, so that its existence means that all files are complete. The detections are
    written twice: compressed, and as plain JSON for other COCO tools. Segments are in COCO's panoptic format,
    panoptic.json and the folder panoptic.
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
