"""One form of a detector, run over a COCO data set: what it finds, how long it takes, what it needs."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from samebox.coco.dataset import CocoDataset, ImageRecord
from samebox.coco.evaluated import EvaluatedForm
from samebox.coco.panoptic import PanopticResults
from samebox.coco.results import results_from_detections
from samebox.core.environment import gpu_memory_mb, peak_memory_mb, reset_peak_memory, resident_memory_mb
from samebox.core.errors import SameboxError
from samebox.detector import Detector, filled
from samebox.evaluation.invariance import Invariance, Limits, invariance
from samebox.record.preprocess import Batch, Image, read_image
from samebox.scoring.average_precision import KEYPOINTS, Scores, score
from samebox.scoring.overlaps import overlaps
from samebox.scoring.panoptic_quality import panoptic_scores
from samebox.scoring.recall import recall_scores
from samebox.scoring.voc import voc_scores

PARTS = ("preprocess", "network", "postprocess")
T = TypeVar("T")


@dataclass
class Pass:
    """One run over the data set: COCO results, images left out with the reason, and times.

    `masks` says whether the detector gives masks, be there a detection or not, and `keypoints` how many it
    gives of an object; `segments` says whether it gives those, which are in `panoptic` where the data set
    has some as well; `times` are milliseconds an image, one entry a batch, by part; `seconds` the whole pass
    takes; `caps` counts the images in which a cap of the network was reached, where the runtime tells.
    """

    results: list[dict[str, Any]] = field(default_factory=list)
    masks: bool = False
    keypoints: int = 0
    segments: bool = False
    panoptic: PanopticResults | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    seconds: float = 0.0
    caps: dict[str, int] = field(default_factory=dict)

    def timed(self, part: str, images: int, call: Callable[[], T]) -> T:
        """What `call` returns, its time noted as `part`."""
        started = time.perf_counter()
        value = call()
        self.times[part].append((time.perf_counter() - started) * 1000 / images)
        return value

    def timing(self) -> dict[str, dict[str, float]]:
        """Median and 95th percentile of each part, in milliseconds an image."""
        return {
            part: {"median": float(np.median(times)), "p95": float(np.percentile(times, 95))}
            for part, times in self.times.items()
        }


def run_over(detector: Detector, dataset: CocoDataset, batch: int, warmup: int, title: str = "") -> Pass:
    """Run `detector` over all images of `dataset`, `batch` at a time, in the order of their ids.

    The images of a batch differ in size, as they come. `warmup` batches are run before and not counted.
    An image that cannot be read, or that the network's form does not take, is left out and said so.
    """
    category_ids = dataset.category_ids(detector.spec.class_names)
    groups = [dataset.images[i : i + batch] for i in range(0, len(dataset.images), batch)]
    for group in groups[:warmup]:
        _answers(detector, dataset, category_ids, group, Pass(panoptic=_segments(detector, dataset)))
    done = Pass(panoptic=_segments(detector, dataset))
    caps = getattr(detector.runner, "caps", Counter[str]())
    caps.clear()
    started = time.perf_counter()
    for group in shown(groups, batch, title):
        done.results += _answers(detector, dataset, category_ids, group, done)
    done.seconds = time.perf_counter() - started
    done.caps = dict(caps)
    return done


def _segments(detector: Detector, dataset: CocoDataset) -> PanopticResults | None:
    """What takes the detector's segments in; None where it gives none, or the data set has none.

    Raises SameboxError for a class of either kind that the data set has not.
    """
    rule = detector.spec.decoding.panoptic
    if rule is None or dataset.panoptic is None:
        return None
    dataset.panoptic.category_ids(detector.spec.class_names, is_thing=True)
    dataset.panoptic.category_ids(rule.stuff_class_names, is_thing=False)
    return PanopticResults(dataset.panoptic)


def _answers(
    detector: Detector,
    dataset: CocoDataset,
    category_ids: Sequence[int],
    group: Sequence[ImageRecord],
    done: Pass,
) -> list[dict[str, Any]]:
    """The COCO results of each image of a group that could be read and run."""
    count = len(group)
    try:
        records, batch = done.timed("preprocess", count, lambda: _prepared(detector, dataset, group, done))
        if batch is None:
            return []
        asked = filled(batch, detector.runner.batch or len(records)).inputs()
        outputs = done.timed("network", count, lambda: detector.runner(asked))
        found = done.timed(
            "postprocess", count, lambda: _results(detector, category_ids, records, outputs, batch, done)
        )
    except SameboxError as error:
        if count > 1:
            # together they need a canvas that is too large: each may still fit its own
            return [
                result
                for record in group
                for result in _answers(detector, dataset, category_ids, [record], done)
            ]
        done.skipped[group[0].file_name] = str(error)
        return []
    done.masks = "masks" in outputs
    done.keypoints = outputs["keypoints"].shape[2] if "keypoints" in outputs else 0
    done.segments = "semantics" in outputs
    return found


def _results(
    detector: Detector,
    category_ids: Sequence[int],
    records: Sequence[ImageRecord],
    outputs: Mapping[str, NDArray[Any]],
    batch: Batch,
    done: Pass,
) -> list[dict[str, Any]]:
    """The network's answer to the batch of the records, as COCO results; segments are added to `done`."""
    results = []
    for record, detections in zip(records, detector.finish(outputs, batch), strict=True):
        results += results_from_detections(record.id, detections, category_ids)
        if detections.panoptic is not None and done.panoptic is not None:
            done.panoptic.add(record.id, detections.panoptic)
    return results


def _prepared(
    detector: Detector, dataset: CocoDataset, group: Sequence[ImageRecord], done: Pass
) -> tuple[list[ImageRecord], Batch | None]:
    """The images of a group that can be read, and the batch they make; None where there are none."""
    readable: dict[ImageRecord, Image] = {}
    for record in group:
        try:
            readable[record] = read_image(dataset.path(record))
        except SameboxError as error:
            done.skipped[record.file_name] = str(error)
    return list(readable), detector.prepare(list(readable.values())) if readable else None


def shown(groups: Sequence[T], batch: int, title: str) -> Iterator[T]:
    """The groups, under a progress bar that tells images a second."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} images/s"),
        TimeRemainingColumn(),
    )
    started = time.perf_counter()
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(f"{title}, batch {batch}", total=len(groups), rate=0.0)
        for index, group in enumerate(groups, start=1):
            yield group
            progress.update(task, advance=1, rate=index * batch / (time.perf_counter() - started))


def evaluated(
    facts: dict[str, Any],
    open_detector: Callable[[], Detector],
    dataset: CocoDataset,
    batches: Sequence[int],
    warmup: int,
    limits: Limits | None = None,
) -> EvaluatedForm:
    """A form measured over `dataset` at each of `batches`; times, images a second and results at the first.

    `facts` are what its metrics start from: who, what, where. The memory is what opening and running the
    detector add to the process. Afterwards it is checked on a sample, where `limits` are given, as
    `samebox.evaluation.invariance` says. Raises NotHere where it cannot be opened on this machine,
    SameboxError for a batch below 1, for a data set without objects, and where no image could be run.
    """
    check_numbers(batches, warmup)
    dataset.check_annotated()
    reset_peak_memory()
    before, gpu_before = resident_memory_mb() or 0.0, gpu_memory_mb()
    with open_detector() as detector:
        passes = {
            batch: run_over(detector, dataset, batch, warmup if batch == batches[0] else 0, facts["title"])
            for batch in batches
        }
        # what runtimes once took on a GPU they keep while they are open: now is the peak
        on_gpu = gpu_memory_mb() - gpu_before
        ran = getattr(detector.runner, "notes", ())
        peak, first = peak_memory_mb(), passes[batches[0]]
        checks, other_canvases = _checked(detector, dataset, first, limits)
    check_run(first, dataset, facts["dataset"])
    scores = {batch: scored(done, dataset) for batch, done in passes.items()}
    unscored = {
        "segm": (first.masks, NO_GROUND_TRUTH),
        "keypoints": (first.keypoints, NO_KEYPOINTS),
        "panoptic": (first.segments, NO_SEGMENTS),
    }
    notes = [why for kind, (given, why) in unscored.items() if given and kind not in scores[batches[0]]]
    metrics = {
        "notes": [*facts["notes"], *ran, *notes, *_cut(first, len(dataset.images)), *checks.notes],
        "status": "measured",
        "reason": None,
        "images": len(dataset.images),
        "skipped": [{"file_name": name, "reason": reason} for name, reason in first.skipped.items()],
        "score": {
            str(batch): {kind: s.stats | {"per_class": s.per_class} for kind, s in by_kind.items()}
            for batch, by_kind in scores.items()
        },
        "timing": first.timing(),
        "images_per_second": len(dataset.images) / first.seconds,
        "peak_mb": peak and peak - before,
        "device_peak_mb": on_gpu if on_gpu > 0 else None,
        "invariance": checks.entries,
    }
    curves = {kind: s.precision for kind, s in scores[batches[0]].items() if s.precision}
    return EvaluatedForm(facts | metrics, curves, first.results, first.panoptic, other_canvases)


def _checked(
    detector: Detector, dataset: CocoDataset, done: Pass, limits: Limits | None
) -> tuple[Invariance, dict[str, dict[int, list[dict[str, Any]]]]]:
    """The checks on images spread evenly over those that were run, and their COCO results by check and id."""
    run = [record for record in dataset.images if record.file_name not in done.skipped]
    if not (limits and limits.images and run):
        return Invariance(), {}
    places = np.linspace(0, len(run) - 1, min(limits.images, len(run))).round().astype(int)
    sample = [run[place] for place in places]
    checks = invariance(detector, [read_image(dataset.path(record)) for record in sample], limits)
    category_ids = dataset.category_ids(detector.spec.class_names)
    return checks, {
        check: {
            record.id: results_from_detections(record.id, found, category_ids)
            for record, found in zip(sample, answers, strict=True)
        }
        for check, answers in checks.answers.items()
    }


def _cut(done: Pass, images: int) -> Iterator[str]:
    for cap, count in done.caps.items():
        if count:
            yield f"{cap} was reached in {count} of {images} images: what lies beyond it is cut"


def check_numbers(batches: Sequence[int], warmup: int) -> None:
    """Raise SameboxError for a batch below 1, for none at all, and for a warm-up below 0."""
    if not batches or any(type(batch) is not int or batch < 1 for batch in batches):
        raise SameboxError(f"evaluate.batches: {list(batches)}: give one number or more, each from 1 up")
    if warmup < 0:
        raise SameboxError(f"evaluate.warmup: {warmup}: give a number from 0 up")


def check_run(done: Pass, dataset: CocoDataset, name: str) -> None:
    """Raise SameboxError naming the data set where none of its images could be run."""
    if len(done.skipped) == len(dataset.images):
        reason = next(iter(done.skipped.values()), "there is none")
        raise SameboxError(f"{name}: not one of its images could be run: {reason}")


def not_run(facts: dict[str, Any], reason: str) -> EvaluatedForm:
    """A form that this machine cannot run, with the reason that fills its cells."""
    unmeasured = dict.fromkeys(
        ("images", "score", "timing", "images_per_second", "peak_mb", "device_peak_mb", "invariance")
    )
    return EvaluatedForm(facts | unmeasured | {"status": "not run", "reason": reason, "skipped": []})


# What the table says of masks, keypoints and segments that there is nothing to hold against
NO_GROUND_TRUTH = "masks are not scored: annotations of the data set have no `segmentation`"
NO_KEYPOINTS = (
    f"keypoints are not scored: that takes {KEYPOINTS} of an object, from the detector and in `keypoints` "
    "and `num_keypoints` of the data set's annotations"
)
NO_SEGMENTS = "segments are not scored: the data set has no panoptic annotations"


def scored(done: Pass, dataset: CocoDataset) -> dict[str, Scores]:
    """The score of a pass by kind of IoU, on all images of the data set: one left out found nothing.

    Masks are scored where the detector gives them and every object of the data set has one, keypoints where
    both have a person's, segments where both have any: as `panoptic`, and the class of each pixel beneath as
    `semantics`. Boxes also as VOC does, `voc` and `voc07`, and by their `recall` whatever their class.
    """
    kinds = ["bbox"]
    objects = dataset.ground_truth.anns.values()
    if done.masks and all(entry.get("segmentation") for entry in objects):
        kinds.append("segm")
    if done.keypoints == KEYPOINTS and all(_has_keypoints(entry) for entry in objects):
        kinds.append("keypoints")
    ids = [record.id for record in dataset.images]
    scores = {kind: score(dataset.ground_truth, done.results, ids, kind) for kind in kinds}
    if done.panoptic is not None and dataset.panoptic is not None:
        scores |= panoptic_scores(dataset.panoptic, done.panoptic.results, ids)
    boxes = list(overlaps(dataset.ground_truth, done.results, ids))
    names = {number: category["name"] for number, category in dataset.ground_truth.cats.items()}
    return scores | voc_scores(boxes, names) | {"recall": recall_scores(boxes)}


def _has_keypoints(entry: dict[str, Any]) -> bool:
    return len(entry.get("keypoints", ())) == 3 * KEYPOINTS and "num_keypoints" in entry
