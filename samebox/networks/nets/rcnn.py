"""Faster R-CNN (Ren et al., 2015, arXiv:1506.01497) and Mask R-CNN (He et al., 2017, arXiv:1703.06870).

Parameters are named as in MMDetection: `backbone.*`, `neck.*`, `rpn_head.*`,
`roi_head.bbox_head.{shared_fcs.i,fc_cls,fc_reg}`, `roi_head.mask_head.{convs.i.conv,upsample,conv_logits}`;
those of detectron2, maskrcnn-benchmark and Detectron are read as well.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from samebox.checkpoints.weights import Rename
from samebox.networks.blocks.boxes import clip, decode_deltas
from samebox.networks.blocks.conv import ConvModule
from samebox.networks.blocks.dense import class_probabilities, map_names
from samebox.networks.blocks.nms import GreedyNMS, clip_and_drop_empty
from samebox.networks.blocks.roi_align import RoIAlign
from samebox.networks.nets import keypoint_rcnn
from samebox.networks.nets.contract import BOXES, rows_to_compute
from samebox.networks.nets.names import BACKBONE, background_last, counted, pyramid, without_background
from samebox.networks.nets.rpn import RPNHead


class BoxHead(nn.Module):
    """Class and box of each region: two shared fully connected layers, then one for either.

    `stds` [4]: the unit of the deltas. `class_agnostic`: one box a region instead of one a class. `inclusive`
    and `shrink_limit` as in `blocks.boxes`. Below, C is the number of classes, and D that of boxes a
    region: C or 1.
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
        """As `forward`, with logits [B,N,C+1] in place of probabilities."""
        logits, deltas = self.predict(self.roi_align(maps, boxes))
        how = {"inclusive": self.inclusive, "shrink_limit": self.shrink_limit}
        moved = decode_deltas(boxes[:, :, None], deltas, self.stds, **how)
        return clip(moved.flatten(1, 2), sizes, self.inclusive).unflatten(1, deltas.shape[1:3]), logits

    def predict(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """[B,N,in_channels,S,S] → logits [B,N,C+1], the background last, and deltas [B,N,D,4]."""
        x = crops.flatten(2)
        for fc in self.shared_fcs:
            x = self.relu(fc(x))
        return self.fc_cls(x), self.fc_reg(x).unflatten(2, (-1, 4))


class FCNMaskHead(nn.Module):
    """The mask of each box: 3x3 convolutions on its crop, enlarged twofold, then one map a class."""

    def __init__(
        self, roi_align: RoIAlign, in_channels: int, channels: int, convs: int, num_classes: int
    ) -> None:
        super().__init__()
        self.roi_align = roi_align
        widths = [in_channels, *[channels] * convs]
        self.convs = nn.ModuleList(ConvModule(i, o, 3) for i, o in pairwise(widths))
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.relu = nn.ReLU()
        self.conv_logits = nn.Conv2d(channels, num_classes, 1)

    def forward(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Pyramid, finest first, boxes [B,K,4], labels [B,K] → probabilities [B,K,2S,2S] of the labels."""
        return self.predict(self.roi_align(maps, boxes), labels)

    def predict(self, crops: Tensor, labels: Tensor) -> Tensor:
        """[B,K,in_channels,S,S], labels [B,K] → probabilities [B,K,2S,2S] of the labels."""
        x = self.features(crops.flatten(0, 1))
        # conv_logits for the one class of each crop alone
        own = labels.flatten()
        weight = self.conv_logits.weight.flatten(1).index_select(0, own)  # [B*K,channels]
        bias = cast(Tensor, self.conv_logits.bias).index_select(0, own)
        logits = torch.bmm(weight[:, None], x.flatten(2)) + bias[:, None, None]
        return logits.sigmoid().reshape(*labels.shape, *x.shape[2:])

    def features(self, crops: Tensor) -> Tensor:
        """[R,in_channels,S,S] → [R,channels,2S,2S], what `conv_logits` is for."""
        for conv in self.convs:
            crops = conv(crops)
        return self.relu(self.upsample(crops))


class RoIHead(nn.Module):
    """The second stage: proposals to objects, with a mask each and keypoints where there are heads for them.

    Every (proposal, class) pair with a score above `score_threshold` enters one NMS. `bbox_head`: as
    BoxHead. `mask_head`: as FCNMaskHead. `keypoint_head`: as KeypointHead. With `drop_empty`, as in
    detectron2, a box without an area is left out of what the NMS chose.
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
        """Pyramid, proposals [B,N,4], objectness [B,N] (0: no proposal), sizes [B,2] → the outputs."""
        boxes, scores = self.bbox_head(maps, proposals, sizes)
        found = self.nms(*self._candidates(boxes, scores, objectness > 0))
        if self.drop_empty:
            found = clip_and_drop_empty(found, sizes)
        outputs = dict(zip(BOXES, found, strict=True))
        if self.mask_head is not None:
            outputs["masks"] = _of_taken(outputs, lambda boxes, labels: self.masks(maps, boxes, labels))
        if self.keypoint_head is not None:
            head = self.keypoint_head
            outputs["keypoints"] = _of_taken(outputs, lambda boxes, _labels: head(maps, boxes))
        return outputs

    def masks(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """The mask head's answer: boxes [B,K,4], labels [B,K] → probabilities [B,K,M,M]."""
        return cast(nn.Module, self.mask_head)(maps, boxes, labels)

    def _candidates(self, boxes: Tensor, scores: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B,N,D,4], [B,N,C] and which proposals are real, [B,N] → the pairs [B,N*C,…] for the NMS."""
        classes = scores.shape[2]
        labels = torch.arange(classes, device=scores.device).expand_as(scores)
        wanted = (scores > self.score_threshold) & real[..., None]
        return (
            boxes.expand(-1, -1, classes, -1).flatten(1, 2),
            torch.where(wanted, scores, 0.0).flatten(1),
            labels.flatten(1),
        )


def _of_taken(outputs: Mapping[str, Tensor], head: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """What a head gives of boxes [B,K,4] and labels [B,K]: [B,K,…], 0 in rows to spare."""
    boxes, scores, labels = (outputs[name] for name in BOXES)
    count, rows = scores.shape[1], rows_to_compute(scores)
    if rows < count:
        boxes, scores, labels = boxes[:, :rows], scores[:, :rows], labels[:, :rows]
    found = head(boxes, labels)
    taken = (scores > 0)[(..., *[None] * (found.ndim - 2))]
    found = torch.where(taken, found, 0.0)
    if rows == count:
        return found
    return torch.cat([found, found.new_zeros(len(found), count - rows, *found.shape[2:])], 1)


# detectron2, maskrcnn-benchmark and Detectron; the latter two have the background first
RENAMES = (
    *BACKBONE,
    *keypoint_rcnn.RENAMES,
    *pyramid(2),
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
    *counted(r"^roi_heads\.box_head\.fc#\.", "roi_head.bbox_head.shared_fcs.#.", 1, 2),
    *counted(r"^(roi_heads\.box\.feature_extractor\.)?fc#\.", "roi_head.bbox_head.shared_fcs.#.", 6, 2),
    Rename(r"^roi_heads\.box_predictor\.cls_score\.", "roi_head.bbox_head.fc_cls."),
    Rename(r"^roi_heads\.box_predictor\.bbox_pred\.", "roi_head.bbox_head.fc_reg."),
    Rename(r"^(roi_heads\.box\.predictor\.)?cls_score\.", "roi_head.bbox_head.fc_cls.", background_last),
    Rename(
        r"^(roi_heads\.box\.predictor\.)?bbox_pred\.", "roi_head.bbox_head.fc_reg.", without_background(4)
    ),
    *counted(
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
        without_background(1),
    ),
)


class RCNN(nn.Module):
    """Backbone, pyramid, proposals, and a head that looks at each of them."""

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
        """What `heads` gives: objectness_4, deltas_4, objectness_8, …, then what is said of the proposals."""
        maps = map_names(("objectness", "deltas"), self.rpn_head.anchors.strides)
        return (*maps, "proposals", "proposal_scores", "class_logits", "boxes")

    def heads(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W], sizes [B,2] → both stages, before thresholds and the last NMS.

        Of each level objectness logits [B,kinds,H,W] and deltas [B,kinds*4,H,W]; proposals [B,N,4] and
        proposal_scores [B,N], 0 for rows to spare; class_logits [B,N,C+1], the background last, and boxes
        [B,N,D,4], in canvas pixels, see BoxHead. The second stage needs the first one's NMS; masks need the
        second one's, so there are none.
        """
        values = self.head_values(self.neck(self.backbone(images)), sizes)
        return dict(zip(self.head_outputs, values, strict=True))

    def head_values(self, maps: Sequence[Tensor], sizes: Tensor) -> tuple[Tensor, ...]:
        """What `heads` gives, from the pyramid on."""
        levels = [self.rpn_head.predict(x) for x in maps]
        proposals, scores = self.rpn_head.select(levels, sizes)
        boxes, logits = cast(BoxHead, self.roi_head.bbox_head).refine(maps, proposals, sizes)
        return (*(x for level in levels for x in level), proposals, scores, logits, boxes)

    def forward(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] and sizes [B,2] → the outputs of `samebox.networks.nets.contract`."""
        return self.found_in(self.neck(self.backbone(images)), sizes)

    def found_in(self, maps: Sequence[Tensor], sizes: Tensor) -> dict[str, Tensor]:
        """What `forward` gives, from the pyramid on."""
        return self.roi_head(maps, *self.rpn_head(maps, sizes), sizes)
