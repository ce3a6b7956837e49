"""The detections of one image, computed from a network's outputs by the same code for all runtimes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from samebox.postprocess.keypoints import keypoints_from_heatmaps
from samebox.postprocess.masks import PASTES, boxes_around, masks_from_canvas
from samebox.postprocess.panoptic import Panoptic, check_classes, class_map, merge_segments
from samebox.record.decoding import MMDETECTION, Decoding, PanopticRule
from samebox.record.preprocess import Batch


@dataclass(frozen=True)
class Detections:
    """The detections of one image, by descending score.

    `boxes` [N,4] float32: x1 y1 x2 y2 in pixels of the original image. `scores` [N] float32 in 0..1.
    `labels` [N] int64: indices into `class_names`. `masks` [N,H,W] bool at the original size, or None if the
    detector has no masks. `panoptic`: the segments, or None if the detector has no semantic head.
    `keypoints` [N,P,3] float32: x and y in pixels of the original image, and a score that ranks keypoints but
    is no probability; None if the detector has no keypoints.

    If `inclusive`, as in maskrcnn-benchmark, coordinates count whole pixels: x2 and y2 are the last pixels in
    a box, and a keypoint is the index of a pixel.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    masks: NDArray[np.bool_] | None = None
    panoptic: Panoptic | None = None
    keypoints: NDArray[np.float32] | None = None
    inclusive: bool = False

    def __len__(self) -> int:
        return len(self.scores)


def detections_from_outputs(
    outputs: Mapping[str, NDArray[Any]],
    batch: Batch,
    class_names: tuple[str, ...],
    decoding: Decoding = MMDETECTION,
) -> list[Detections]:
    """One `Detections` per image from a network's named outputs, in pixels of the original image.

    `outputs`: boxes [B,K,4] on the canvas, scores [B,K], labels [B,K]. Rows with score 0 are padding and are
    dropped. Optional: masks [B,K,M,M], probabilities over each row's box; keypoints [B,K,P,M,M], logits over
    each row's box; semantics [B,S,H/4,W/4], logits over the canvas, which become segments by
    `decoding.panoptic`. A network without boxes has masks [B,K,H/4,W/4] over the canvas; its boxes are the
    smallest ones around the masks. Raises SameboxError if the panoptic rule names another number of classes
    than the semantics have.
    """
    # x and y have their own factors, because rounding the resized sides made these differ
    factors = (batch.sizes / batch.originals)[:, [1, 0, 1, 0]].astype(np.float32)
    detections = []
    for index, (factor, original) in enumerate(zip(factors, batch.originals.tolist(), strict=True)):
        real = outputs["scores"][index] > 0
        rows = {name: output[index][real] for name, output in outputs.items() if name != "semantics"}
        if "boxes" in rows:
            boxes = rows["boxes"] / factor
            masks = PASTES[decoding.masks](rows["masks"], boxes, *original) if "masks" in rows else None
        else:
            masks = masks_from_canvas(rows["masks"], tuple(batch.sizes[index].tolist()), *original)
            boxes = boxes_around(masks)
        keypoints = None
        if "keypoints" in rows:
            keypoints = keypoints_from_heatmaps(rows["keypoints"], rows["boxes"], decoding.keypoints)
            keypoints[..., :2] /= factor[:2]
        detections.append(
            Detections(
                boxes=boxes,
                scores=rows["scores"],
                labels=rows["labels"],
                class_names=class_names,
                masks=masks,
                keypoints=keypoints,
                inclusive=decoding.inclusive,
            )
        )
    if "semantics" in outputs and decoding.panoptic is not None:
        return _with_segments(detections, outputs["semantics"], batch, decoding.panoptic)
    return detections


def _with_segments(
    detections: Sequence[Detections], semantics: NDArray[np.float32], batch: Batch, rule: PanopticRule
) -> list[Detections]:
    """Add the segments of each image, from logits [B,S,H/4,W/4] over the canvas."""
    check_classes(semantics, rule)
    sizes = zip(batch.sizes.tolist(), batch.originals.tolist(), strict=True)
    completed = []
    for objects, logits, (size, original) in zip(detections, semantics, sizes, strict=True):
        names = [objects.class_names[label] for label in objects.labels]
        classes = class_map(logits, tuple(size), *original)
        masks = cast(NDArray[np.bool_], objects.masks)
        panoptic = merge_segments(masks, objects.scores, names, classes, rule)
        completed.append(replace(objects, panoptic=panoptic))
    return completed
