"""The region proposals of an R-CNN, evaluated like the detections of a detector with one class."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samebox.coco.dataset import CocoDataset
from samebox.coco.results import results_from_detections
from samebox.core.progress import tracked
from samebox.detector import Detector
from samebox.record.spec import METADATA_KEY, Spec
from samebox.runners.protocol import Runner
from samebox.scoring.overlaps import Overlaps, overlaps


class ProposalRunner:
    """Returns the proposals of an R-CNN as detections, all with the label of the first class.

    `runner` has been entered, and returns the head outputs of an R-CNN.
    """

    def __init__(self, runner: Runner) -> None:
        self.name, self.batch = runner.name, runner.batch
        spec = replace(Spec.from_metadata(runner.metadata, runner.name), postprocess=True)
        self.metadata = {METADATA_KEY: spec.to_json()}
        self._runner = runner

    def __enter__(self) -> "ProposalRunner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.__exit__(kind, error, trace)

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.generic]]:
        """images [B,3,H,W] and sizes [B,2] → boxes [B,N,4], scores [B,N] and labels [B,N]."""
        outputs = self._runner(inputs)
        scores = outputs["proposal_scores"]
        labels = np.zeros(scores.shape, np.int64)
        return {"boxes": outputs["proposals"], "scores": scores, "labels": labels}


def proposal_overlaps(
    detector: Detector, dataset: CocoDataset, batch: int, title: str = ""
) -> Iterator[Overlaps]:
    """The overlaps of an image's boxes with its objects, image by image, so that no boxes are kept.

    Raises SameboxError for an image that cannot be read or run.
    """
    category_ids = dataset.category_ids(detector.spec.class_names)
    groups = [dataset.images[i : i + batch] for i in range(0, len(dataset.images), batch)]
    for group in tracked(groups, f"{title}, batch {batch}", len(dataset.images), "images", batch):
        by_image = detector.batch([dataset.path(record) for record in group])
        for record, detections in zip(group, by_image, strict=True):
            results = results_from_detections(record.id, detections, category_ids)
            yield from overlaps(dataset.ground_truth, results, [record.id])
