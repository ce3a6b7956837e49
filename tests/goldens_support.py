"""Reference cases: what the original model code answered for a checkpoint. See `goldens.py` among them.

They lie beside the project; the environment variable SAMEBOX_GOLDENS names another folder.
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
ABSENT = f"no reference cases in {FOLDER}; name their folder in SAMEBOX_GOLDENS"


# The names of the two probes of a case of detectron2 or maskrcnn-benchmark
PROBES = "probe", "probe60"


class Limits(NamedTuple):
    """How far two detections that agree may differ: in pixels, in score, and the IoU of their masks."""

    box: float
    score: float
    mask: float


# Of the detections, and of their masks, how many have to agree; how far two that do may differ at least
SHARE = 0.99
LIMITS = Limits(box=0.05, score=1e-4, mask=0.99)

# Proposals of two correct runs differ by hundredths of a pixel; a second stage makes more of that, and a case
# states how much for its first image alone. The recorded scores of Faster R-CNN lie up to 9e-4 from those in
# double precision, PointRend's boxes up to 0.093 pixels, as ours in PyTorch do up to 0.080. Two runs of
# Cascade Mask R-CNN on its second image, with oneDNN and without, differ by 0.5 pixels and 0.0038, three to
# four times what it states, and one of their masks has an IoU of 0.907. How exact a second stage is, is asked
# of it alone, with the recorded proposals.
SECOND_STAGE, SECOND_STAGE_TIMES = Limits(box=0.15, score=1e-3, mask=0.93), 5


def above(score: float, detections: Detections) -> Detections:
    """Those of more than `score`."""
    kept = detections.scores > score
    masks = None if detections.masks is None else detections.masks[kept]
    fields = (detections.boxes[kept], detections.scores[kept], detections.labels[kept])
    return Detections(*fields, detections.class_names, masks)


def samples(tensor: NDArray[Any] | torch.Tensor) -> NDArray[Any]:
    """The 256 values of a tensor that a case stores."""
    flat = np.asarray(tensor).reshape(-1)
    return flat[np.linspace(0, flat.size - 1, 256).astype(int)]


def image(name: str) -> Image:
    """One of the cases' images."""
    return read_image(FOLDER / "images" / name)


class Golden:
    """One case beside the detector of `conf/detector` that is to answer alike, its weights loaded strictly.

    `folder`: of the case, within the cases. `work`: where the checkpoint is written.
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
        """The case's images, each a batch of its own, as the detector's own rule prepares them."""
        return [self.loaded.spec.preprocess([image(entry["image"])]) for entry in self.meta["inputs"]]

    @cached_property
    def together(self) -> Batch | None:
        """The images that the original code was asked in one batch, where it was."""
        names = self.batch_names()
        return self.loaded.spec.preprocess([image(name) for name in names]) if names else None

    def batch_names(self) -> list[str]:
        """The files of those images."""
        return [entry["image"] for entry in self.meta.get("batch") or []]

    def asked(self, index: int) -> tuple[list[int], list[int] | None, list[int], NDArray[Any] | None]:
        """What the original code was asked for image `index`: heights and widths, and some values.

        Of the image as it was, resized (None where it is pasted as it is), and padded.
        """
        stated = self.meta["inputs"][index]
        resized = stated["resized"] if self.meta["preprocess"]["resize"] else None
        return stated["original"], resized, stated["padded"], self.outputs[f"{index}/tensor"]

    @property
    def probed(self) -> set[str]:
        """The names of the tensors that the case stores at the probe."""
        return set(self.meta["probe"]["values"])

    def probe(self) -> torch.Tensor:
        """The fixed input of the backbone for which the case stores the values of every part."""
        asked = self.meta["probe"]["input"]
        drawn = self._draw(asked["name"], tuple(asked["shape"]), asked["scale"], asked["offset"])
        return torch.from_numpy(drawn)

    def probe_regions(self) -> torch.Tensor:
        """The regions of the probe for which the case stores what heads answer: [1,N,4]."""
        regions = torch.tensor(self.meta["probe"]["rois"], dtype=torch.float32)
        assert not regions[:, 0].any(), "the first column numbers the image"
        return regions[None, :, 1:]

    @property
    def two_stages(self) -> bool:
        """Whether the original code went by way of proposals, which the case stores."""
        return "0/proposals" in self.outputs

    @property
    def threshold(self) -> float:
        """What a reported score has to exceed: nothing where a threshold is on another score, or not used."""
        test = self.meta["test_cfg"]
        unlimited = "conf_thr" in test or "corner_topk" in test  # YOLO, CornerNet
        return 0.0 if unlimited else test.get("rcnn", test).get("score_thr", 0.0)

    @property
    def limits(self) -> Limits:
        """What two correct runs of the original code differ by, several times, or our own where wider."""
        if self.two_stages:
            return self.limits_of(SECOND_STAGE, SECOND_STAGE_TIMES)
        return self.limits_of(LIMITS, 3)

    def limits_of(self, least: Limits, times: float) -> Limits:
        """`least`, or so many times what two runs of the original code differ by, where that is more."""
        noise = self.meta["numerical_noise"]
        # boxes around masks are those of single pixels: the masks themselves are compared
        return least._replace(
            box=max(least.box, times * noise.get("max_box_difference_pixels", np.inf)),
            score=max(least.score, times * noise["max_score_difference"]),
        )

    def detections(self, index: int | str) -> Detections:
        """What the original code found in image `index`, which was run alone, or in "batch/INDEX"."""
        boxes, scores, labels = (self.outputs[f"{index}/{name}"] for name in ("boxes", "scores", "labels"))
        masks = self._masks(index)
        if masks is not None and not boxes.any():  # the original gives none
            boxes = boxes_around(masks)
        return Detections(boxes, scores, labels, self.loaded.spec.class_names, masks)

    def _masks(self, index: int | str) -> NDArray[np.bool_] | None:
        if f"{index}/masks_packed" not in self.outputs:
            return None
        shape = self.outputs[f"{index}/masks_shape"]
        bits = np.unpackbits(self.outputs[f"{index}/masks_packed"], count=int(shape.prod()))
        return bits.reshape(shape).astype(bool)

    def proposals(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What the first stage of the original code gave for image `index`: boxes [N,4], objectness [N]."""
        return self.outputs[f"{index}/proposals"], self.outputs[f"{index}/proposal_scores"]

    def assert_proposals(
        self, index: int, boxes: NDArray[np.float32], objectness: NDArray[np.float32]
    ) -> None:
        """`boxes` [N,4] and `objectness` [N] are the original code's proposals for image `index`."""
        stored, found = (
            Detections(*one, np.zeros(len(one[0]), np.int64), ("object",))
            for one in (self.proposals(index), (boxes, objectness))
        )
        compared = agreement(stored, found)
        share = compared.share(LIMITS.box, LIMITS.score)
        assert share >= SHARE, f"image {index}: only {share:.1%} of the proposals agree; {compared}"

    def assert_detections(
        self, index: int | str, found: Detections, limits: Limits | None = None, least: float = SHARE
    ) -> None:
        """`found` is what the original code found in image `index`, within `limits` or the case's own.

        `least`: the share of the detections, and of their masks, that has to be.

        Detections are matched by class and overlap. One so near the score threshold that a correct run may
        lose it need not have a counterpart.
        """
        limits, reference = limits or self.limits, self.detections(index)
        sure = self.threshold + limits.score
        assert len(reference) > 0
        for one, other in ((reference, found), (found, reference)):
            compared = agreement(*map(self.matchable, (above(sure, one), other)))
            alike = (compared.box <= limits.box) & (compared.score <= limits.score)
            share = float(alike.sum()) / max(compared.reference, 1)
            assert share >= least, f"image {index}: only {share:.1%} agree; {compared}"
        assert (reference.masks is None) == (found.masks is None)
        if compared.mask is not None:
            share = float((compared.mask >= limits.mask).mean())
            assert share >= least, f"image {index}: only {share:.1%} of the masks agree; {compared}"

    def matchable(self, detections: Detections) -> Detections:
        """The detections with boxes by whose overlap they can be matched."""
        return detections

    def assert_tensor(self, name: str, found: torch.Tensor) -> None:
        """`found` is the probe's tensor `name`, to a thousandth of its own spread."""
        stated, stored = self.meta["probe"]["values"][name], self.outputs[f"probe/{name}"]
        assert list(found.shape) == stated["shape"], name
        limit = 1e-3 * stated["std"]
        np.testing.assert_allclose(samples(found), stored, rtol=0, atol=limit, err_msg=name)
        np.testing.assert_allclose(found.mean().item(), stated["mean"], rtol=0, atol=limit, err_msg=name)
        np.testing.assert_allclose(found.std().item(), stated["std"], rtol=1e-3, err_msg=name)


class DetectronGolden(Golden):
    """A case of detectron2 or maskrcnn-benchmark, whose records are kept otherwise.

    They have two probes: ours runs both as one batch.
    """

    def batch_names(self) -> list[str]:
        return self.meta.get("batch_inputs", {}).get("images", [])

    def asked(self, index: int) -> tuple[list[int], list[int] | None, list[int], NDArray[Any] | None]:
        stated = self.meta["inputs"][index]
        return stated["original_hw"], stated["resized_hw"], stated["padded_hw"], None

    @property
    def probed(self) -> set[str]:
        return {name.partition("/")[2] for name in self.meta["probes"]}

    def probe(self) -> torch.Tensor:
        asked = [self.meta["probe_input"][name]["draw"] for name in PROBES]
        drawn = [self._draw(name, tuple(shape), *scale) for name, shape, *scale in asked]
        return torch.from_numpy(np.concatenate(drawn))

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
        """As of Golden, with the segments where the original code gave any."""
        found = super().detections(index)
        if f"{index}/panoptic" not in self.outputs:
            return found
        stuff = self.loaded.spec.decoding.panoptic.stuff_class_names
        names = {True: found.class_names, False: ("things", *stuff)}
        segments = tuple(
            Segment(one["id"], names[one["isthing"]][one["category_id"]], one["isthing"], one.get("score"))
            for one in self.meta["segments_info"][str(index)]
        )
        ids, classes = (self.outputs[f"{index}/{name}"] for name in ("panoptic", "sem_seg_argmax"))
        return replace(found, panoptic=Panoptic(ids, segments, classes, stuff))

    def assert_detections(
        self, index: int | str, found: Detections, limits: Limits | None = None, least: float = SHARE
    ) -> None:
        """As of Golden; segments are the same, and so is nearly every pixel of them."""
        super().assert_detections(index, found, limits, least)
        ours, theirs = found.panoptic, self.detections(index).panoptic
        assert (ours is None) == (theirs is None)
        if ours is None or theirs is None:
            return
        told = [[(one.id, one.class_name, one.is_thing) for one in side.segments] for side in (ours, theirs)]
        assert told[0] == told[1], f"image {index}: other segments"
        for name in ("ids", "classes"):
            share = float((getattr(ours, name) == getattr(theirs, name)).mean())
            assert share >= SHARE, f"image {index}: only {share:.2%} of the pixels' {name} agree"

    def matchable(self, detections: Detections) -> Detections:
        """A box whose x2 is its last pixel has an area, be it one pixel wide."""
        inclusive = self.meta["framework"] == "maskrcnn-benchmark"
        boxes = as_continuous(torch.from_numpy(detections.boxes), inclusive).numpy()
        return replace(detections, boxes=boxes)

    def assert_tensor(self, name: str, found: torch.Tensor) -> None:
        """As of Golden, for either probe; a NaN stands for what no network has a use for."""
        for probe, one in zip(PROBES, found, strict=True):
            stated, stored = self.meta["probes"][f"{probe}/{name}"], self.outputs[f"{probe}/{name}"]
            assert list(one.shape) == stated["shape"][one.ndim == 3 :], name
            sampled = samples(one)
            known = ~np.isnan(sampled)
            assert known.mean() > 0.95
            limit = 1e-3 * stated["std"]
            np.testing.assert_allclose(sampled[known], stored[known], rtol=0, atol=limit, err_msg=name)
