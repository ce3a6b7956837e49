"""Faster R-CNN (Ren et al., 2015, arXiv:1506.01497) and Mask R-CNN (He et al., 2017, arXiv:1703.06870).

Parameters are named as in MMDetection: `backbone.*`, `neck.*`, `rpn_head.*`,
`roi_head.bbox_head.{shared_fcs.i,fc_cls,fc_reg}`, `roi_head.mask_head.{convs.i.conv,upsample,conv_logits}`.
The names of detectron2, maskrcnn-benchmark and Detectron are supported as well.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from samebox.checkpoints.weights import Rename
from samebox.networks.blocks.boxes import clip, decode_deltas
from samebox.networks.blocks.conv import conv_tower
from samebox.networks.blocks.dense import class_probabilities, map_names
from samebox.networks.blocks.nms import GreedyNMS, clip_and_drop_empty
from samebox.networks.blocks.roi_align import RoIAlign
from samebox.networks.nets import keypoint_rcnn
from samebox.networks.nets.contract import BOXES, rows_to_compute
from samebox.networks.nets.names import (
    BACKBONE_RENAMES,
    drop_background,
    fpn_renames,
    move_background_last,
    numbered_renames,
)
from samebox.networks.nets.rpn import RPNHead


class BoxHead(nn.Module):
    """Class and boxes of each region, by two shared fully connected layers and one more for each of them.

    For `stds` [4], `inclusive` and `shrink_limit` see `decode_deltas`. In shapes, C is the number of classes
    and D the number of boxes of a region: C, or 1 if `class_agnostic`.
    """

    stds: Tensor

    def __init__(
        self,
        roi_align: RoIAlign,
        in_channels: int,
        channels: int,
        num_classes: int,
        stds: Sequence[float],
        class_agnostic: bool = False,
        inclusive: bool = False,
        shrink_limit: bool = True,
    ) -> None:
        super().__init__()
        self.roi_align = roi_align
        widths = [in_channels * roi_align.size**2, channels, channels]
        self.shared_fcs = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(widths))
        self.relu = nn.ReLU()
        self.fc_cls = nn.Linear(channels, num_classes + 1)
        self.fc_reg = nn.Linear(channels, 4 if class_agnostic else 4 * num_classes)
        self.register_buffer("stds", torch.tensor(stds), persistent=False)
        self.inclusive = inclusive
        self.shrink_limit = shrink_limit

    def forward(self, maps: Sequence[Tensor], boxes: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Pyramid, finest first, boxes [B,N,4], sizes [B,2] → boxes [B,N,D,4], probabilities [B,N,C]."""
        refined, logits = self.refine(maps, boxes, sizes)
        return refined, class_probabilities(logits)

    def refine(self, maps: Sequence[Tensor], boxes: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, but with logits [B,N,C+1], the background last, in place of probabilities."""
        logits, deltas = self.predict(self.roi_align(maps, boxes))
        options = {"inclusive": self.inclusive, "shrink_limit": self.shrink_limit}
        decoded = decode_deltas(boxes[:, :, None], deltas, self.stds, **options)
        return clip(decoded.flatten(1, 2), sizes, self.inclusive).unflatten(1, deltas.shape[1:3]), logits

    def predict(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """[B,N,in_channels,S,S] → logits [B,N,C+1], the background last, and deltas [B,N,D,4]."""
        x = crops.flatten(2)
        for fc in self.shared_fcs:
            x = self.relu(fc(x))
        return self.fc_cls(x), self.fc_reg(x).unflatten(2, (-1, 4))


class FCNMaskHead(nn.Module):
    """The mask of each box: 3x3 convolutions on its RoIAlign crop, upsampling by 2, then one map per class.

    In shapes, S is the side of a crop.
    """

    def __init__(
        self, roi_align: RoIAlign, in_channels: int, channels: int, convs: int, num_classes: int
    ) -> None:
        super().__init__()
        self.roi_align = roi_align
        self.convs = conv_tower(in_channels, channels, convs)
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.relu = nn.ReLU()
        self.conv_logits = nn.Conv2d(channels, num_classes, 1)

    def forward(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Pyramid, finest first, boxes [B,K,4], labels [B,K] → probabilities [B,K,2S,2S] of the labels."""
        return self.predict(self.roi_align(maps, boxes), labels)

    def predict(self, crops: Tensor, labels: Tensor) -> Tensor:
        """[B,K,in_channels,S,S], labels [B,K] → probabilities [B,K,2S,2S] of the labels."""
        x = self.features(crops.flatten(0, 1))
        # conv_logits only for the label of each crop
        classes = labels.flatten()
        weight = self.conv_logits.weight.flatten(1).index_select(0, classes)  # [B*K,channels]
        bias = cast(Tensor, self.conv_logits.bias).index_select(0, classes)
        logits = torch.bmm(weight[:, None], x.flatten(2)) + bias[:, None, None]
        return logits.sigmoid().reshape(*labels.shape, *x.shape[2:])

    def features(self, crops: Tensor) -> Tensor:
        """[R,in_channels,S,S] → the input of `conv_logits`, [R,channels,2S,2S]."""
        for conv in self.convs:
            crops = conv(crops)
        return self.relu(self.upsample(crops))


class RoIHead(nn.Module):
    """The second stage: from proposals to detections, with masks and keypoints if there are heads for them.

    Every (proposal, class) pair with a score above `score_threshold` enters one NMS. The heads have the
    interfaces of BoxHead, FCNMaskHead and KeypointHead. With `drop_empty`, as in detectron2, boxes without
    area are removed from the results of the NMS.
    """

    def __init__(
        self,
        bbox_head: nn.Module,
        nms: GreedyNMS,
        score_threshold: float,
        mask_head: nn.Module | None = None,
        drop_empty: bool = False,
        keypoint_head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.drop_empty = drop_empty
        self.bbox_head = bbox_head
        self.nms = nms
        self.score_threshold = score_threshold
        self.mask_head = mask_head
        self.keypoint_head = keypoint_head
        heads = {"masks": mask_head, "keypoints": keypoint_head}
        self.outputs = (*BOXES, *(name for name, head in heads.items() if head is not None))

    def forward(
        self, maps: Sequence[Tensor], proposals: Tensor, objectness: Tensor, sizes: Tensor
    ) -> dict[str, Tensor]:
        """Pyramid, finest first, proposals [B,N,4], objectness [B,N] (0: padding), sizes [B,2] → outputs."""
        boxes, scores = self.bbox_head(maps, proposals, sizes)
        detections = self.nms(*self._candidates(boxes, scores, objectness > 0))
        if self.drop_empty:
            detections = clip_and_drop_empty(detections, sizes)
        outputs = dict(zip(BOXES, detections, strict=True))
        if self.mask_head is not None:
            outputs["masks"] = _at_detections(outputs, lambda boxes, labels: self.masks(maps, boxes, labels))
        if self.keypoint_head is not None:
            head = self.keypoint_head
            outputs["keypoints"] = _at_detections(outputs, lambda boxes, _labels: head(maps, boxes))
        return outputs

    def masks(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Pyramid, finest first, boxes [B,K,4], labels [B,K] → mask probabilities [B,K,M,M]."""
        return cast(nn.Module, self.mask_head)(maps, boxes, labels)

    def _candidates(
        self, boxes: Tensor, scores: Tensor, is_proposal: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[B,N,D,4], [B,N,C] and [B,N] bool → boxes, scores and labels [B,N*C,…] of all pairs for the NMS."""
        classes = scores.shape[2]
        labels = torch.arange(classes, device=scores.device).expand_as(scores)
        is_candidate = (scores > self.score_threshold) & is_proposal[..., None]
        return (
            boxes.expand(-1, -1, classes, -1).flatten(1, 2),
            torch.where(is_candidate, scores, 0.0).flatten(1),
            labels.flatten(1),
        )


def _at_detections(outputs: Mapping[str, Tensor], head: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The values [B,K,…] of a head for boxes [B,K,4] and labels [B,K]; 0 in padding rows."""
    boxes, scores, labels = (outputs[name] for name in BOXES)
    count, rows = scores.shape[1], rows_to_compute(scores)
    if rows < count:
        boxes, scores, labels = boxes[:, :rows], scores[:, :rows], labels[:, :rows]
    values = head(boxes, labels)
    is_detection = (scores > 0)[(..., *[None] * (values.ndim - 2))]
    values = torch.where(is_detection, values, 0.0)
    if rows == count:
        return values
    return torch.cat([values, values.new_zeros(len(values), count - rows, *values.shape[2:])], 1)


# Names of detectron2, maskrcnn-benchmark and Detectron. The last two have the background first.
RENAMES = (
    *BACKBONE_RENAMES,
    *keypoint_rcnn.RENAMES,
    *fpn_renames(2),
    Rename(r"^(proposal_generator|rpn)\.anchor_generator\.", None),
    Rename(r"^(proposal_generator\.rpn_head\.conv|rpn\.head\.conv|conv_rpn_fpn2)\.", "rpn_head.rpn_conv."),
    Rename(
        r"^(proposal_generator\.rpn_head\.objectness_logits|rpn\.head\.cls_logits|rpn_cls_logits_fpn2)\.",
        "rpn_head.rpn_cls.",
    ),
    Rename(
        r"^(proposal_generator\.rpn_head\.anchor_deltas|rpn\.head\.bbox_pred|rpn_bbox_pred_fpn2)\.",
        "rpn_head.rpn_reg.",
    ),
    *numbered_renames(r"^roi_heads\.box_head\.fc#\.", "roi_head.bbox_head.shared_fcs.#.", 1, 2),
    *numbered_renames(
        r"^(roi_heads\.box\.feature_extractor\.)?fc#\.", "roi_head.bbox_head.shared_fcs.#.", 6, 2
    ),
    Rename(r"^roi_heads\.box_predictor\.cls_score\.", "roi_head.bbox_head.fc_cls."),
    Rename(r"^roi_heads\.box_predictor\.bbox_pred\.", "roi_head.bbox_head.fc_reg."),
    Rename(r"^(roi_heads\.box\.predictor\.)?cls_score\.", "roi_head.bbox_head.fc_cls.", move_background_last),
    Rename(r"^(roi_heads\.box\.predictor\.)?bbox_pred\.", "roi_head.bbox_head.fc_reg.", drop_background(4)),
    *numbered_renames(
        r"^(roi_heads\.mask_head\.mask_|roi_heads\.mask\.feature_extractor\.mask_|_\[mask\]_)fcn#\.",
        "roi_head.mask_head.convs.#.conv.",
        1,
        4,
    ),
    Rename(
        r"^(roi_heads\.mask_head\.deconv|(roi_heads\.mask\.predictor\.)?conv5_mask)\.",
        "roi_head.mask_head.upsample.",
    ),
    Rename(r"^roi_heads\.mask_head\.predictor\.", "roi_head.mask_head.conv_logits."),
    Rename(
        r"^(roi_heads\.mask\.predictor\.)?mask_fcn_logits\.",
        "roi_head.mask_head.conv_logits.",
        drop_background(1),
    ),
)


class RCNN(nn.Module):
    """Backbone, pyramid, region proposal network and second stage."""

    renames: ClassVar[tuple[Rename, ...]] = RENAMES

    def __init__(self, backbone: nn.Module, neck: nn.Module, rpn_head: RPNHead, roi_head: RoIHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.rpn_head = rpn_head
        self.roi_head = roi_head
        self.outputs = roi_head.outputs

    @property
    def head_outputs(self) -> tuple[str, ...]:
        """Names of the tensors that `heads` returns: objectness_4, deltas_4, objectness_8, …, proposals, …"""
        maps = map_names(("objectness", "deltas"), self.rpn_head.anchors.strides)
        return (*maps, "proposals", "proposal_scores", "class_logits", "boxes")

    def heads(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W], sizes [B,2] → both stages, before the last score threshold and NMS.

        Objectness logits [B,A,H,W] and deltas [B,A*4,H,W] of each level; proposals [B,N,4] and
        proposal_scores [B,N], 0 in padding rows; class_logits [B,N,C+1], the background last, and boxes
        [B,N,D,4], see BoxHead. Boxes are in canvas pixels. The second stage needs the NMS of the first. Masks
        need the NMS of the second, so there are none.
        """
        tensors = self.head_tensors(self.neck(self.backbone(images)), sizes)
        return dict(zip(self.head_outputs, tensors, strict=True))

    def head_tensors(self, maps: Sequence[Tensor], sizes: Tensor) -> tuple[Tensor, ...]:
        """The values of `heads`, from the pyramid, finest level first."""
        levels = [self.rpn_head.predict(x) for x in maps]
        proposals, scores = self.rpn_head.select(levels, sizes)
        boxes, logits = cast(BoxHead, self.roi_head.bbox_head).refine(maps, proposals, sizes)
        return (*(x for level in levels for x in level), proposals, scores, logits, boxes)

    def forward(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] and sizes [B,2] → the outputs, see `samebox.networks.nets.contract`."""
        return self.detect(self.neck(self.backbone(images)), sizes)

    def detect(self, maps: Sequence[Tensor], sizes: Tensor) -> dict[str, Tensor]:
        """The outputs of `forward`, from the pyramid, finest level first."""
        return self.roi_head(maps, *self.rpn_head(maps, sizes), sizes)
