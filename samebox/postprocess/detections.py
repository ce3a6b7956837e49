"""Detections of one image, brought back to its own pixels by one code for all runtimes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from samebox.postprocess.keypoints import located
from samebox.postprocess.masks import PASTES, bounds, spread
from samebox.postprocess.panoptic import Panoptic, check_classes, class_map, merged
from samebox.record.decoding import MMDETECTION, Decoding, PanopticRule
from samebox.record.preprocess import Batch


@dataclass(frozen=True)
class Detections:
    """What a detector found in one image, by descending score.

    `boxes` [N,4] float32, x1 y1 x2 y2 in pixels of the original image; `scores` [N] float32 in 0..1;
    `labels` [N] int64, indices into `class_names`; `masks` [N,H,W] bool at the original size, or None
    for a detector that gives none; `panoptic` the segments of a detector that tells every pixel's class;
    `keypoints` [N,P,3] float32, of each x and y in pixels of the original image and a score that only ranks,
    or None for a detector that gives none. With `inclusive`, as in maskrcnn-benchmark, coordinates count
    whole pixels: x2 and y2 are the last ones in a box, and a keypoint lies on one.
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
    """One `Detections` an image from a network's named outputs, in the pixels of the image as it was.

    `outputs`: boxes [B,K,4] on the canvas, scores [B,K] where 0 is padding, which is dropped, labels [B,K];
    from a network that gives masks also masks [B,K,M,M], the probabilities over each row's box, and so
    keypoints [B,K,P,M,M], the logits of each. One that has masks [B,K,H/4,W/4] over the canvas and no boxes
    gets the boxes around them. One that has semantics [B,S,H/4,W/4] gets segments, by the rule of `decoding`.
    Raises SameboxError where the rule is for another number of classes.
    """
    # x and y are scaled apart: rounding made their factors differ
    factors = (batch.sizes / batch.originals)[:, [1, 0, 1, 0]].astype(np.float32)
    found = []
    for index, (factor, original) in enumerate(zip(factors, batch.originals.tolist(), strict=True)):
        taken = outputs["scores"][index] > 0
        rows = {name: output[index][taken] for name, output in outputs.items() if name != "semantics"}
        if "boxes" in rows:
            boxes = rows["boxes"] / factor
            masks = PASTES[decoding.masks](rows["masks"], boxes, *original) if "masks" in rows else None
        else:
            masks = spread(rows["masks"], tuple(batch.sizes[index].tolist()), *original)
            boxes = bounds(masks)
        keypoints = None
        if "keypoints" in rows:
            keypoints = located(rows["keypoints"], rows["boxes"], decoding.keypoints)
            keypoints[..., :2] /= factor[:2]
        found.append(
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
        return _with_segments(found, outputs["semantics"], batch, decoding.panoptic)
    return found


def _with_segments(
    found: Sequence[Detections], semantics: NDArray[np.float32], batch: Batch, rule: PanopticRule
) -> list[Detections]:
    """The detections of each image with its segments, from logits [B,S,H/4,W/4] over the canvas."""
    check_classes(semantics, rule)
    sizes = zip(batch.sizes.tolist(), batch.originals.tolist(), strict=True)
    whole = []
    for one, logits, (size, original) in zip(found, semantics, sizes, strict=True):
        names = [one.class_names[label] for label in one.labels]
        classes = class_map(logits, tuple(size), *original)
        panoptic = merged(cast(NDArray[np.bool_], one.masks), one.scores, names, classes, rule)
        whole.append(replace(one, panoptic=panoptic))
    return whole
