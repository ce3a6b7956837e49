"""FCOS: Fully Convolutional One-Stage Object Detection (Tian et al., 2019, arXiv:1904.01355).

Parameters are named as in MMDetection: `backbone.*`, `neck.*`, `bbox_head.{cls_convs,reg_convs}.i.{conv,gn}`,
`bbox_head.conv_{cls,reg,centerness}`, `bbox_head.scales.i.scale`.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from samebox.networks.blocks.anchors import Points
from samebox.networks.blocks.boxes import decode_distances
from samebox.networks.blocks.conv import ConvModule
from samebox.networks.blocks.dense import candidates, map_names
from samebox.networks.blocks.fpn import FPN
from samebox.networks.blocks.nms import GreedyNMS
from samebox.networks.blocks.resnet import BasicBlock, Bottleneck, ResNet
from samebox.networks.blocks.valid import GroupNorm, ValidCells, zero_beyond
from samebox.networks.nets.one_stage import OneStage


class Scale(nn.Module):
    """A learnt factor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        """x times the factor."""
        return x * self.scale


class FCOSHead(nn.Module):
    """Two towers of 3x3 convolutions with GroupNorm, shared by all levels.

    The first gives class logits and centerness, the second the distances of the box's sides, which each
    level has its own factor for.
    """

    def __init__(
        self, in_channels: int, channels: int, convs: int, num_classes: int, norm_groups: int, points: Points
    ) -> None:
        super().__init__()
        widths = [in_channels, *[channels] * convs]
        self.cls_convs, self.reg_convs = (
            nn.ModuleList(ConvModule(i, o, 3, norm=GroupNorm(norm_groups, o)) for i, o in pairwise(widths))
            for _ in range(2)
        )
        self.conv_cls = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.conv_reg = nn.Conv2d(channels, 4, 3, padding=1)
        self.conv_centerness = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in points.strides)
        self.num_classes = num_classes
        self.points = points

    def forward(self, x: Tensor, level: int, valid: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """[B,in_channels,H,W] → class logits [B,num_classes,H,W], distances [B,4,H,W], centerness [B,1,H,W].

        Distances are of left, top, right and bottom from the cell's point, in pixels; centerness is a logit.
        With `valid` [B,1,H,W] bool, cells beyond their image count nowhere, and their class logits are -inf.
        """
        x = x if valid is None else torch.where(valid, x, 0.0)
        classes = boxes = x
        for conv in self.cls_convs:
            classes = conv(classes, valid)
        for conv in self.reg_convs:
            boxes = conv(boxes, valid)
        logits = self.conv_cls(classes)
        if valid is not None:
            logits = torch.where(valid, logits, -torch.inf)
        distances = self.scales[level](self.conv_reg(boxes)).exp()
        return logits, distances, self.conv_centerness(classes)


class FCOS(OneStage):
    """Backbone, pyramid, head; then the `nms_pre` best pairs of each level, decoded, and one NMS.

    A pair is found by its class score alone, which has to exceed `score_threshold`; the NMS ranks by, and the
    answer gives, that score times the centerness.

    The original's GroupNorm takes its statistics over the whole canvas, so that what an image gives depends
    on how far it is padded. With `masked_norm` they are of the image's own cells, and convolutions take in
    zeros alone beyond: every image gives what it gives alone on a canvas of its own size.
    """

    backbone: ResNet
    neck: FPN
    bbox_head: FCOSHead

    def __init__(
        self,
        backbone: ResNet,
        neck: FPN,
        bbox_head: FCOSHead,
        nms: GreedyNMS,
        nms_pre: int,
        score_threshold: float,
        masked_norm: bool = False,
    ) -> None:
        super().__init__(backbone, neck, bbox_head, nms, nms_pre, score_threshold)
        self.masked_norm = masked_norm

    @property
    def head_outputs(self) -> tuple[str, ...]:
        """The names of `heads`, in its order."""
        return map_names(("logits", "distances", "centerness"), self.bbox_head.points.strides)

    def heads(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """What the head gives, by `head_outputs`, see FCOSHead.forward; arguments as of `forward`."""
        maps = (x for level in self._levels(images, sizes) for x in level)
        return dict(zip(self.head_outputs, maps, strict=True))

    def forward(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] and sizes [B,2] → the outputs of `samebox.networks.nets.contract`."""
        head, levels = self.bbox_head, self._levels(images, sizes)
        limits = self.nms_pre, self.score_threshold
        found = candidates(levels, head.points, head.num_classes, *limits, sizes, decode=decode_distances)
        return dict(zip(self.outputs, self.nms(*found), strict=True))

    def _levels(self, images: Tensor, sizes: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """What the head gives of every level."""
        if not self.masked_norm:
            return [self.bbox_head(x, i) for i, x in enumerate(self.neck(self.backbone(images)))]
        valid = ValidCells(sizes)
        with zero_beyond(valid, self._looking_around()):
            maps = self.neck(self.backbone(images))
        return [
            self.bbox_head(x, i, valid(x, stride))
            for i, (x, stride) in enumerate(zip(maps, self.bbox_head.points.strides, strict=True))
        ]

    def _looking_around(self) -> Iterator[tuple[nn.Module, int]]:
        """The modules before the head to which a cell's neighbours matter, and the strides they take in."""
        yield self.backbone.maxpool, 2
        stride = 4
        for block in self.backbone.modules():
            if isinstance(block, BasicBlock | Bottleneck):
                for conv in block.children():
                    if isinstance(conv, nn.Conv2d):
                        yield conv, stride
                        stride *= conv.stride[0]
        strides = self.bbox_head.points.strides
        lateral = len(self.neck.lateral_convs)
        for level, conv in enumerate(self.neck.fpn_convs):
            yield conv, strides[level if level < lateral else level - 1]
