"""The evaluation of one form of a detector on a COCO data set: scores, times, memory, invariance checks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from samebox.coco.dataset import CocoDataset
from samebox.coco.evaluated import EvaluatedForm
from samebox.coco.results import results_from_detections
from samebox.core.environment import gpu_memory_mb, peak_memory_mb, reset_peak_memory, resident_memory_mb
from samebox.core.errors import SameboxError
from samebox.detector import Detector
from samebox.evaluation.invariance import InvarianceLimits, InvarianceResult, check_answers
from samebox.evaluation.run import DataSetRun, check_any_image_ran, run_on_data_set
from samebox.evaluation.scores import run_scores, unscored_notes
from samebox.record.preprocess import read_image
from samebox.scoring.average_precision import Scores


def evaluate_form(
    facts: dict[str, Any],
    open_detector: Callable[[], Detector],
    dataset: CocoDataset,
    batches: Sequence[int],
    warmup: int,
    limits: InvarianceLimits | None = None,
) -> EvaluatedForm:
    """A form evaluated on the data set at each batch size; times and results are those of the first.

    `facts` are the entries of the metrics that are known before the run: names, data set, notes, hardware.
    The memory is what opening and running the detector adds to the process. If `limits` are given, a sample
    of images is then checked for invariance. A batch size above the form's fixed batch is not run, and the
    metrics state why. Raises NotHere if this machine cannot open the form, and SameboxError for a batch below
    1, for a data set without objects, and if no image could be run.
    """
    _check_numbers(batches, warmup)
    dataset.check_annotated()
    memory = _MemoryUse()
    with open_detector() as detector:
        not_run = _batches_not_run(detector, batches)
        run_batches = [batch for batch in batches if batch not in not_run]
        runs = _runs(detector, dataset, run_batches, warmup, facts["title"])
        added_memory = memory.added()
        runner_notes = getattr(detector.runner, "notes", ())
        first = runs[batches[0]]
        checks, other_canvases = _invariance(detector, dataset, first, limits)
    check_any_image_ran(first, dataset, facts["dataset"])
    scores = {batch: run_scores(run, dataset) for batch, run in runs.items()}
    first_scores = scores[batches[0]]
    notes = [*runner_notes, *unscored_notes(first, first_scores), *_cap_notes(first, len(dataset.images))]
    metrics = {
        "notes": [*facts["notes"], *dataset.notes, *notes, *checks.notes],
        "status": "measured",
        "reason": None,
        "images": len(dataset.images),
        "skipped": [{"file_name": name, "reason": reason} for name, reason in first.skipped.items()],
        "score": _score_metrics(scores),
        "batches_not_run": {str(batch): reason for batch, reason in not_run.items()},
        "timing": first.timing(),
        "images_per_second": (len(dataset.images) - len(first.skipped)) / first.seconds,
        **added_memory,
        "invariance": checks.entries,
    }
    curves = {kind: one.precision for kind, one in first_scores.items() if one.precision}
    return EvaluatedForm(facts | metrics, curves, first.results, first.panoptic, other_canvases)


def form_not_run(facts: dict[str, Any], reason: str) -> EvaluatedForm:
    """A form that this machine cannot run; the reason fills its cells of the table."""
    unmeasured = dict.fromkeys(
        ("images", "score", "timing", "images_per_second", "peak_mb", "device_peak_mb", "invariance")
    )
    return EvaluatedForm(facts | unmeasured | {"status": "not run", "reason": reason, "skipped": []})


def _check_numbers(batches: Sequence[int], warmup: int) -> None:
    """Raises SameboxError for a batch below 1, for no batches, and for a warm-up below 0."""
    if not batches or any(type(batch) is not int or batch < 1 for batch in batches):
        raise SameboxError(f"evaluate.batches: {list(batches)}: give one number or more, each from 1 up")
    if warmup < 0:
        raise SameboxError(f"evaluate.warmup: {warmup}: give a number from 0 up")


def _batches_not_run(detector: Detector, batches: Sequence[int]) -> dict[int, str]:
    """The batch sizes that the form cannot run as one batch, with the reason.

    Run in parts, they would repeat the figures of the form's own batch size under another heading. The first
    batch size is always run, because times and results are taken from it.
    """
    fixed = detector.runner.batch
    larger = [batch for batch in batches[1:] if fixed is not None and batch > fixed]
    return dict.fromkeys(larger, f"the form takes a batch of {fixed}")


def _runs(
    detector: Detector, dataset: CocoDataset, batches: Sequence[int], warmup: int, title: str
) -> dict[int, DataSetRun]:
    """A run at each batch size. Only the first, whose times count, has warm-up batches."""
    return {
        batch: run_on_data_set(detector, dataset, batch, warmup if batch == batches[0] else 0, title)
        for batch in batches
    }


class _MemoryUse:
    """The memory that the process adds to what it has now."""

    def __init__(self) -> None:
        reset_peak_memory()
        self._resident, self._gpu = resident_memory_mb() or 0.0, gpu_memory_mb()

    def added(self) -> dict[str, float | None]:
        """Added peak memory in MB, on the host and on the GPU; None if unknown or if no GPU was used.

        The GPU's peak is its present use: runtimes keep what they once allocated there while they are open.
        """
        on_gpu, peak = gpu_memory_mb() - self._gpu, peak_memory_mb()
        return {"peak_mb": peak and peak - self._resident, "device_peak_mb": on_gpu if on_gpu > 0 else None}


def _score_metrics(scores: Mapping[int, Mapping[str, Scores]]) -> dict[str, Any]:
    """The scores as metrics.json holds them, by batch size and kind."""
    return {
        str(batch): {kind: one.stats | {"per_class": one.per_class} for kind, one in by_kind.items()}
        for batch, by_kind in scores.items()
    }


def _cap_notes(run: DataSetRun, images: int) -> Iterator[str]:
    for cap, count in run.caps.items():
        if count:
            yield f"{cap} was reached in {count} of {images} images: detections beyond it are cut off"


def _invariance(
    detector: Detector, dataset: CocoDataset, run: DataSetRun, limits: InvarianceLimits | None
) -> tuple[InvarianceResult, dict[str, dict[int, list[dict[str, Any]]]]]:
    """The checks on a sample of images, and COCO results on other canvases by check and image id.

    The sample is spread evenly over the images that were run.
    """
    records = [record for record in dataset.images if record.file_name not in run.skipped]
    if not (limits and limits.images and records):
        return InvarianceResult(), {}
    places = np.linspace(0, len(records) - 1, min(limits.images, len(records))).round().astype(int)
    sample = [records[place] for place in places]
    checks = check_answers(detector, [read_image(dataset.path(record)) for record in sample], limits)
    category_ids = dataset.category_ids(detector.spec.class_names)
    return checks, {
        check: {
            record.id: results_from_detections(record.id, detections, category_ids)
            for record, detections in zip(sample, answers, strict=True)
        }
        for check, answers in checks.other_canvases.items()
    }
