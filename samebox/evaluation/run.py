"""A detector run over a data set: COCO results, times, and the images left out."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from samebox.coco.dataset import CocoDataset, ImageRecord
from samebox.coco.panoptic import PanopticResults
from samebox.coco.results import results_from_detections
from samebox.core.errors import SameboxError
from samebox.core.progress import tracked
from samebox.detector import Detector, padded_batch
from samebox.record.preprocess import Batch, Image, read_image

PARTS = ("preprocess", "network", "postprocess")
T = TypeVar("T")


@dataclass
class DataSetRun:
    """The outcome of one run over the data set.

    `results` are COCO results. `has_masks`, `has_segments` and `keypoints` (their number per object) describe
    the network's outputs, even if nothing was detected. `panoptic` holds the segments if the detector and the
    data set have some. `skipped` maps the file name of each image left out to the reason. `times` are
    milliseconds per image, one entry per batch, by part (PARTS). `seconds` is the duration of the whole run.
    `caps` counts, by cap, the images that reached it, if the runner reports caps.
    """

    results: list[dict[str, Any]] = field(default_factory=list)
    has_masks: bool = False
    keypoints: int = 0
    has_segments: bool = False
    panoptic: PanopticResults | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    seconds: float = 0.0
    caps: dict[str, int] = field(default_factory=dict)

    def timed(self, part: str, images: int, call: Callable[[], T]) -> T:
        """Call the function, add its time to `times` of the part, and return its value."""
        started = time.perf_counter()
        value = call()
        self.times[part].append((time.perf_counter() - started) * 1000 / images)
        return value

    def timing(self) -> dict[str, dict[str, float]]:
        """Median and 95th percentile of each part, in milliseconds per image."""
        return {
            part: {"median": float(np.median(times)), "p95": float(np.percentile(times, 95))}
            for part, times in self.times.items()
        }


def run_on_data_set(
    detector: Detector, dataset: CocoDataset, batch: int, warmup: int, title: str = ""
) -> DataSetRun:
    """Run the detector on all images of the data set in the order of their ids, `batch` at a time.

    The images of a batch may differ in size. `warmup` batches run first and are not counted. An image that
    cannot be read, or that the form does not accept, is left out and listed in `skipped`.
    """
    category_ids = dataset.category_ids(detector.spec.class_names)
    groups = [dataset.images[i : i + batch] for i in range(0, len(dataset.images), batch)]
    for group in groups[:warmup]:
        warm = DataSetRun(panoptic=_empty_segments(detector, dataset))
        _group_results(detector, dataset, category_ids, group, warm)
    run = DataSetRun(panoptic=_empty_segments(detector, dataset))
    caps = getattr(detector.runner, "caps", Counter[str]())
    caps.clear()
    started = time.perf_counter()
    for group in tracked(groups, f"{title}, batch {batch}", len(dataset.images), "images", batch):
        run.results += _group_results(detector, dataset, category_ids, group, run)
    run.seconds = time.perf_counter() - started
    run.caps = dict(caps)
    return run


def check_any_image_ran(run: DataSetRun, dataset: CocoDataset, name: str) -> None:
    """Raises SameboxError, with the data set's `name`, if none of its images could be run."""
    if len(run.skipped) == len(dataset.images):
        reason = next(iter(run.skipped.values()), "it has no images")
        raise SameboxError(f"{name}: none of its images could be run: {reason}")


def _empty_segments(detector: Detector, dataset: CocoDataset) -> PanopticResults | None:
    """An empty collection of panoptic results; None if the detector or the data set has no segments.

    Raises SameboxError if the data set lacks one of the detector's classes of things or of stuff.
    """
    rule = detector.spec.decoding.panoptic
    if rule is None or dataset.panoptic is None:
        return None
    dataset.panoptic.category_ids(detector.spec.class_names, is_thing=True)
    dataset.panoptic.category_ids(rule.stuff_class_names, is_thing=False)
    return PanopticResults(dataset.panoptic)


def _group_results(
    detector: Detector,
    dataset: CocoDataset,
    category_ids: Sequence[int],
    group: Sequence[ImageRecord],
    run: DataSetRun,
) -> list[dict[str, Any]]:
    """The COCO results of the images of a group that could be read and run."""
    count = len(group)
    try:
        records, batch = run.timed("preprocess", count, lambda: _prepared(detector, dataset, group, run))
        if batch is None:
            return []
        inputs = padded_batch(batch, detector.runner.batch or len(records)).inputs()
        # a fixed batch is filled up, and its time is that of all its images
        outputs = run.timed("network", len(inputs["sizes"]), lambda: detector.runner(inputs))
        results = run.timed(
            "postprocess", count, lambda: _results(detector, category_ids, records, outputs, batch, run)
        )
    except SameboxError as error:
        if count > 1:
            # the shared canvas may be too large although each image fits alone
            return [
                result
                for record in group
                for result in _group_results(detector, dataset, category_ids, [record], run)
            ]
        run.skipped[group[0].file_name] = str(error)
        return []
    run.has_masks = "masks" in outputs
    run.keypoints = outputs["keypoints"].shape[2] if "keypoints" in outputs else 0
    run.has_segments = "semantics" in outputs
    return results


def _prepared(
    detector: Detector, dataset: CocoDataset, group: Sequence[ImageRecord], run: DataSetRun
) -> tuple[list[ImageRecord], Batch | None]:
    """The images of a group that can be read, and their batch; None if there are none."""
    readable: dict[ImageRecord, Image] = {}
    for record in group:
        try:
            readable[record] = read_image(dataset.path(record))
        except SameboxError as error:
            run.skipped[record.file_name] = str(error)
    return list(readable), detector.preprocess(list(readable.values())) if readable else None


def _results(
    detector: Detector,
    category_ids: Sequence[int],
    records: Sequence[ImageRecord],
    outputs: Mapping[str, NDArray[Any]],
    batch: Batch,
    run: DataSetRun,
) -> list[dict[str, Any]]:
    """COCO results from the outputs for a batch of the images `records`; segments are added to the run."""
    results = []
    for record, detections in zip(records, detector.postprocess(outputs, batch), strict=True):
        results += results_from_detections(record.id, detections, category_ids)
        if detections.panoptic is not None and run.panoptic is not None:
            run.panoptic.add(record.id, detections.panoptic)
    return results
