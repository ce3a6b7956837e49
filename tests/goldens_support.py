"""Reference cases: results of the original model code. `goldens.py` beside them documents their format.

They are in `shared/goldens` beside the project, or in the folder of the environment variable SAMEBOX_GOLDENS.
"""

import importlib.util
import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from samebox.evaluation.agreement import agreement
from samebox.networks.blocks.boxes import as_continuous
from samebox.postprocess.detections import Detections
from samebox.postprocess.masks import boxes_around
from samebox.postprocess.panoptic import Panoptic, Segment
from samebox.record.preprocess import Batch, Image, read_image
from stages.compose import compose
from stages.networks import LoadedNetwork, load_network

FOLDER = Path(os.environ.get("SAMEBOX_GOLDENS", Path(__file__).parents[2] / "shared" / "goldens"))
PRESENT = (FOLDER / "goldens.py").is_file()
ABSENT = f"no reference cases in {FOLDER}; set SAMEBOX_GOLDENS to their folder"

# Names of the two probes in cases of detectron2 and maskrcnn-benchmark
PROBES = "probe", "probe60"


class Limits(NamedTuple):
    """Limits within which two detections agree: difference in pixels and in score, and IoU of the masks."""

    box: float
    score: float
    mask: float


# Share of detections, and of masks, that must agree, and the limits for agreement unless the noise is larger
SHARE = 0.99
LIMITS = Limits(box=0.05, score=1e-4, mask=0.99)

# Proposals of two correct runs differ by hundredths of a pixel. A second stage amplifies this difference, and
# a case states by how much only for its first image. The recorded scores of Faster R-CNN deviate up to 9e-4
# from double precision, and the boxes of PointRend up to 0.093 pixels; those of samebox in PyTorch up to
# 0.080. Two runs of Cascade Mask R-CNN on its second image, with and without oneDNN, differ by 0.5 pixels and
# 0.0038, three to four times the stated noise, and one pair of masks has an IoU of 0.907. The second stage is
# therefore also compared separately, from the recorded proposals.
SECOND_STAGE, SECOND_STAGE_FACTOR = Limits(box=0.15, score=1e-3, mask=0.93), 5


def above(score: float, detections: Detections) -> Detections:
    """The detections with scores above `score`."""
    kept = detections.scores > score
    masks = None if detections.masks is None else detections.masks[kept]
    fields = (detections.boxes[kept], detections.scores[kept], detections.labels[kept])
    return Detections(*fields, detections.class_names, masks)


def samples(tensor: NDArray[Any] | torch.Tensor) -> NDArray[Any]:
    """The 256 evenly spaced values of a tensor that a case stores."""
    flat = np.asarray(tensor).reshape(-1)
    return flat[np.linspace(0, flat.size - 1, 256).astype(int)]


def image(name: str) -> Image:
    """An image of the cases."""
    return read_image(FOLDER / "images" / name)


class Golden:
    """A reference case, and the detector of `conf/detector` to compare with it.

    `folder`: of the case, relative to the cases. `work`: folder for the checkpoint, which is deleted again.
    """

    def __init__(self, folder: str, detector: str, work: Path) -> None:
        module = importlib.util.spec_from_file_location("goldens", FOLDER / "goldens.py")
        goldens = importlib.util.module_from_spec(module)
        module.loader.exec_module(goldens)
        self._draw = goldens.draw
        case = goldens.Case(FOLDER / folder)
        self.meta: dict[str, Any] = case.meta
        self.outputs: dict[str, NDArray[Any]] = case.outputs()
        checkpoint = work / "checkpoint.pth"
        torch.save(case.checkpoint(), checkpoint)
        self.loaded: LoadedNetwork = load_network(compose("export", [f"detector={detector}"]), checkpoint)
        checkpoint.unlink()

    @cached_property
    def batches(self) -> list[Batch]:
        """The images of the case, one per batch, preprocessed by the detector's rule."""
        return [self.loaded.spec.preprocess([image(entry["image"])]) for entry in self.meta["inputs"]]

    @cached_property
    def joint_batch(self) -> Batch | None:
        """The images that the original code ran in one batch, or None."""
        names = self.batch_names()
        return self.loaded.spec.preprocess([image(name) for name in names]) if names else None

    def batch_names(self) -> list[str]:
        """The file names of the images of `joint_batch`."""
        return [entry["image"] for entry in self.meta.get("batch") or []]

    def original_inputs(
        self, index: int
    ) -> tuple[list[int], list[int] | None, list[int], NDArray[Any] | None]:
        """The original code's input for image `index`: heights and widths, and stored values of the tensor.

        Height and width of the image before and after resizing (None if it is not resized), and padded.
        """
        stated = self.meta["inputs"][index]
        resized = stated["resized"] if self.meta["preprocess"]["resize"] else None
        return stated["original"], resized, stated["padded"], self.outputs[f"{index}/tensor"]

    @property
    def probe_names(self) -> set[str]:
        """The names of the tensors that the case stores for the probe."""
        return set(self.meta["probe"]["values"])

    def probe(self) -> torch.Tensor:
        """The fixed input of the backbone for which the case stores the outputs of every part."""
        stated = self.meta["probe"]["input"]
        values = self._draw(stated["name"], tuple(stated["shape"]), stated["scale"], stated["offset"])
        return torch.from_numpy(values)

    def probe_regions(self) -> torch.Tensor:
        """The regions of the probe for which the case stores the outputs of heads: [1,N,4]."""
        regions = torch.tensor(self.meta["probe"]["rois"], dtype=torch.float32)
        assert not regions[:, 0].any(), "the first column is the image index"
        return regions[None, :, 1:]

    @property
    def two_stages(self) -> bool:
        """Whether the network has two stages: the case then stores the proposals."""
        return "0/proposals" in self.outputs

    @property
    def threshold(self) -> float:
        """The threshold of the output scores; 0 if the family has none, or one on another score."""
        test = self.meta["test_cfg"]
        unlimited = "conf_thr" in test or "corner_topk" in test  # YOLO, CornerNet
        return 0.0 if unlimited else test.get("rcnn", test).get("score_thr", 0.0)

    @property
    def limits(self) -> Limits:
        """Limits for agreement: a multiple of the original code's noise, or the minimum if that is larger."""
        if self.two_stages:
            return self.limits_of(SECOND_STAGE, SECOND_STAGE_FACTOR)
        return self.limits_of(LIMITS, 3)

    def limits_of(self, minimum: Limits, factor: float) -> Limits:
        """`minimum`, or `factor` times the noise between two runs of the original code if that is larger."""
        noise = self.meta["numerical_noise"]
        # without stated noise, boxes are those around masks, which single pixels change: masks are compared
        return minimum._replace(
            box=max(minimum.box, factor * noise.get("max_box_difference_pixels", np.inf)),
            score=max(minimum.score, factor * noise["max_score_difference"]),
        )

    def detections(self, index: int | str) -> Detections:
        """The original code's detections for image `index`, run alone, or for "batch/INDEX"."""
        boxes, scores, labels = (self.outputs[f"{index}/{name}"] for name in ("boxes", "scores", "labels"))
        masks = self._masks(index)
        if masks is not None and not boxes.any():  # the original code returns no boxes
            boxes = boxes_around(masks)
        return Detections(boxes, scores, labels, self.loaded.spec.class_names, masks)

    def _masks(self, index: int | str) -> NDArray[np.bool_] | None:
        if f"{index}/masks_packed" not in self.outputs:
            return None
        shape = self.outputs[f"{index}/masks_shape"]
        bits = np.unpackbits(self.outputs[f"{index}/masks_packed"], count=int(shape.prod()))
        return bits.reshape(shape).astype(bool)

    def proposals(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The original code's proposals for image `index`: boxes [N,4], objectness [N]."""
        return self.outputs[f"{index}/proposals"], self.outputs[f"{index}/proposal_scores"]

    def assert_proposals(
        self, index: int, boxes: NDArray[np.float32], objectness: NDArray[np.float32]
    ) -> None:
        """Boxes [N,4] and objectness [N] agree with the original code's proposals for image `index`."""
        stored, proposals = (
            Detections(*fields, np.zeros(len(fields[0]), np.int64), ("object",))
            for fields in (self.proposals(index), (boxes, objectness))
        )
        compared = agreement(stored, proposals)
        share = compared.share(LIMITS.box, LIMITS.score)
        assert share >= SHARE, f"image {index}: only {share:.1%} of the proposals agree; {compared}"

    def assert_detections(
        self, index: int | str, detections: Detections, limits: Limits | None = None, min_share: float = SHARE
    ) -> None:
        """The detections agree with the original code's for image `index`, within `limits` or the case's own.

        `min_share`: share of detections, and of masks, that must agree. Detections are matched by class and
        overlap. One so near the score threshold that a correct run may lose it needs no counterpart.
        """
        limits, reference = limits or self.limits, self.detections(index)
        safe_score = self.threshold + limits.score
        assert len(reference) > 0
        for side, other in ((reference, detections), (detections, reference)):
            compared = agreement(*map(self.matchable, (above(safe_score, side), other)))
            agrees = (compared.box <= limits.box) & (compared.score <= limits.score)
            share = float(agrees.sum()) / max(compared.reference, 1)
            assert share >= min_share, f"image {index}: only {share:.1%} agree; {compared}"
        assert (reference.masks is None) == (detections.masks is None)
        if compared.mask is not None:
            share = float((compared.mask >= limits.mask).mean())
            assert share >= min_share, f"image {index}: only {share:.1%} of the masks agree; {compared}"

    def matchable(self, detections: Detections) -> Detections:
        """The detections with continuous boxes, to match them by overlap."""
        return detections

    def assert_tensor(self, name: str, tensor: torch.Tensor) -> None:
        """The tensor agrees with the probe's tensor `name` within 0.001 of its standard deviation."""
        stated, stored = self.meta["probe"]["values"][name], self.outputs[f"probe/{name}"]
        assert list(tensor.shape) == stated["shape"], name
        limit = 1e-3 * stated["std"]
        np.testing.assert_allclose(samples(tensor), stored, rtol=0, atol=limit, err_msg=name)
        np.testing.assert_allclose(tensor.mean().item(), stated["mean"], rtol=0, atol=limit, err_msg=name)
        np.testing.assert_allclose(tensor.std().item(), stated["std"], rtol=1e-3, err_msg=name)


class DetectronGolden(Golden):
    """A case of detectron2 or maskrcnn-benchmark, whose metadata have another layout.

    These cases have two probes, which are run here as one batch.
    """

    def batch_names(self) -> list[str]:
        return self.meta.get("batch_inputs", {}).get("images", [])

    def original_inputs(
        self, index: int
    ) -> tuple[list[int], list[int] | None, list[int], NDArray[Any] | None]:
        stated = self.meta["inputs"][index]
        return stated["original_hw"], stated["resized_hw"], stated["padded_hw"], None

    @property
    def probe_names(self) -> set[str]:
        return {name.partition("/")[2] for name in self.meta["probes"]}

    def probe(self) -> torch.Tensor:
        stated = [self.meta["probe_input"][name]["draw"] for name in PROBES]
        values = [self._draw(name, tuple(shape), *scale) for name, shape, *scale in stated]
        return torch.from_numpy(np.concatenate(values))

    def probe_regions(self) -> torch.Tensor:
        regions = torch.tensor(self.meta["probe_input"]["roi_boxes_xyxy"])
        return regions.expand(len(PROBES), -1, -1)

    @property
    def threshold(self) -> float:
        return self.meta["thresholds"]["score_threshold"]

    @property
    def limits(self) -> Limits:
        noise = [entry for entry in self.meta["stability"].values() if isinstance(entry, dict)]
        mask = min(entry.get("mask_min_iou", 1) for entry in noise)
        return Limits(
            box=max(LIMITS.box, 3 * max(entry["max_box_diff_px"] for entry in noise)),
            score=max(LIMITS.score, 3 * max(entry["max_score_diff"] for entry in noise)),
            mask=min(LIMITS.mask, 1 - 3 * (1 - mask)),
        )

    def detections(self, index: int | str) -> Detections:
        """As Golden.detections, with the segments of the original code if there are any."""
        detections = super().detections(index)
        if f"{index}/panoptic" not in self.outputs:
            return detections
        stuff = self.loaded.spec.decoding.panoptic.stuff_class_names
        names = {True: detections.class_names, False: ("things", *stuff)}
        segments = tuple(
            Segment(x["id"], names[x["isthing"]][x["category_id"]], x["isthing"], x.get("score"))
            for x in self.meta["segments_info"][str(index)]
        )
        ids, classes = (self.outputs[f"{index}/{name}"] for name in ("panoptic", "sem_seg_argmax"))
        return replace(detections, panoptic=Panoptic(ids, segments, classes, stuff))

    def assert_detections(
        self, index: int | str, detections: Detections, limits: Limits | None = None, min_share: float = SHARE
    ) -> None:
        """As Golden.assert_detections; segments must be equal, and `SHARE` of the pixels."""
        super().assert_detections(index, detections, limits, min_share)
        panoptic, reference = detections.panoptic, self.detections(index).panoptic
        assert (panoptic is None) == (reference is None)
        if panoptic is None or reference is None:
            return
        segments, expected = (
            [(segment.id, segment.class_name, segment.is_thing) for segment in side.segments]
            for side in (panoptic, reference)
        )
        assert segments == expected, f"image {index}: other segments"
        for name in ("ids", "classes"):
            share = float((getattr(panoptic, name) == getattr(reference, name)).mean())
            assert share >= SHARE, f"image {index}: only {share:.2%} of the pixels' {name} agree"

    def matchable(self, detections: Detections) -> Detections:
        """As Golden.matchable. An inclusive box has an area even if it is one pixel wide."""
        inclusive = self.meta["framework"] == "maskrcnn-benchmark"
        boxes = as_continuous(torch.from_numpy(detections.boxes), inclusive).numpy()
        return replace(detections, boxes=boxes)

    def assert_tensor(self, name: str, tensor: torch.Tensor) -> None:
        """As Golden.assert_tensor, for both probes; NaN stands for values that samebox does not compute."""
        for probe, part in zip(PROBES, tensor, strict=True):
            stated, stored = self.meta["probes"][f"{probe}/{name}"], self.outputs[f"{probe}/{name}"]
            assert list(part.shape) == stated["shape"][part.ndim == 3 :], name
            sampled = samples(part)
            known = ~np.isnan(sampled)
            assert known.mean() > 0.95
            limit = 1e-3 * stated["std"]
            np.testing.assert_allclose(sampled[known], stored[known], rtol=0, atol=limit, err_msg=name)
