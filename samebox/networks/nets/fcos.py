"""FCOS: Fully Convolutional One-Stage Object Detection (Tian et al., 2019, arXiv:1904.01355).

Parameters are named as in MMDetection: `backbone.*`, `neck.*`, `bbox_head.{cls_convs,reg_convs}.i.{conv,gn}`,
`bbox_head.conv_{cls,reg,centerness}`, `bbox_head.scales.i.scale`.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from samebox.networks.blocks.anchors import Points
from samebox.networks.blocks.boxes import decode_distances
from samebox.networks.blocks.conv import conv_tower
from samebox.networks.blocks.dense import candidates
from samebox.networks.blocks.fpn import FPN
from samebox.networks.blocks.nms import GreedyNMS
from samebox.networks.blocks.resnet import BasicBlock, Bottleneck, ResNet
from samebox.networks.blocks.valid import GroupNorm, ValidCells, zero_padding_cells
from samebox.networks.nets.one_stage import OneStage


class Scale(nn.Module):
    """A learned factor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        """x, of any shape, times the factor."""
        return x * self.scale


class FCOSHead(nn.Module):
    """Two towers of 3x3 convolutions with GroupNorm, shared by all levels.

    The first predicts class logits and centerness, the second the distances to the box's sides, which are
    scaled by a factor per level.
    """

    def __init__(
        self, in_channels: int, channels: int, convs: int, num_classes: int, norm_groups: int, points: Points
    ) -> None:
        super().__init__()
        norm = partial(GroupNorm, norm_groups)
        self.cls_convs = conv_tower(in_channels, channels, convs, norm)
        self.reg_convs = conv_tower(in_channels, channels, convs, norm)
        self.conv_cls = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.conv_reg = nn.Conv2d(channels, 4, 3, padding=1)
        self.conv_centerness = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in points.strides)
        self.num_classes = num_classes
        self.points = points
        self.strides = points.strides

    def forward(self, x: Tensor, level: int, valid: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """[B,in_channels,H,W] → class logits [B,num_classes,H,W], distances [B,4,H,W], centerness [B,1,H,W].

        Distances are those from the cell's point to left, top, right, bottom, in pixels. Centerness is a
        logit. With `valid` [B,1,H,W] bool, padding cells influence no other cell, and their class logits are
        -inf.
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
    """A OneStage without anchors. Boxes that have no area after clipping to their image are dropped.

    Pairs are selected by their class score. The NMS ranks by, and the output score is, that score times the
    centerness.

    The original's GroupNorm computes its statistics over the whole canvas, so an image's results depend on
    its padding. With `masked_norm` the statistics are those of the image's own cells, and convolutions read
    zeros in padding cells: an image gives the same results as alone on a canvas of its own size.
    """

    map_parts = ("logits", "distances", "centerness")

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

    def forward(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] and sizes [B,2] → the outputs, see `samebox.networks.nets.contract`."""
        head, levels = self.bbox_head, self.levels(images, sizes)
        limits = self.nms_pre, self.score_threshold
        selected = candidates(levels, head.points, head.num_classes, *limits, sizes, decode=decode_distances)
        return dict(zip(self.outputs, self.nms(*selected), strict=True))

    def levels(self, images: Tensor, sizes: Tensor) -> list[tuple[Tensor, ...]]:
        """As OneStage.levels, see FCOSHead.forward."""
        if not self.masked_norm:
            return [self.bbox_head(x, i) for i, x in enumerate(self.neck(self.backbone(images)))]
        valid = ValidCells(sizes)
        with zero_padding_cells(valid, self._spatial_modules()):
            maps = self.neck(self.backbone(images))
        return [
            self.bbox_head(x, i, valid(x, stride))
            for i, (x, stride) in enumerate(zip(maps, self.bbox_head.strides, strict=True))
        ]

    def _spatial_modules(self) -> Iterator[tuple[nn.Module, int]]:
        """The modules before the head that read a cell's neighbours, and the strides of their inputs."""
        yield self.backbone.maxpool, 2
        stride = 4
        for block in self.backbone.modules():
            if isinstance(block, BasicBlock | Bottleneck):
                for conv in block.children():
                    if isinstance(conv, nn.Conv2d):
                        yield conv, stride
                        stride *= conv.stride[0]
        strides = self.bbox_head.strides
        lateral = len(self.neck.lateral_convs)
        for level, conv in enumerate(self.neck.fpn_convs):
            yield conv, strides[level if level < lateral else level - 1]
