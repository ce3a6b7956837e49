"""Panoptic FPN (Kirillov et al., 2019, arXiv:1901.02446): Mask R-CNN with a semantic segmentation head.

Parameters are named as in MMDetection: those of `rcnn`,
`semantic_head.conv_upsample_layers.i.conv.j.{conv,gn}` for level i, and `semantic_head.conv_logits`.
"""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from samebox.checkpoints.weights import Rename
from samebox.networks.blocks.conv import conv_tower
from samebox.networks.blocks.valid import GroupNorm
from samebox.networks.nets.contract import PANOPTIC
from samebox.networks.nets.rcnn import RCNN, RoIHead
from samebox.networks.nets.rpn import RPNHead

LEVELS = 4  # levels of the pyramid that the semantic head reads: strides 4 to 32


class ConvUpsample(nn.Module):
    """Brings a level of the pyramid to the size of the finest: 3x3 convolutions with GroupNorm and ReLU.

    Bilinear upsampling to the next finer level follows each of them. `level`: number of finer levels; at
    level 0 there is one convolution without upsampling.
    """

    def __init__(self, level: int, in_channels: int, channels: int, groups: int) -> None:
        super().__init__()
        self.conv = conv_tower(in_channels, channels, max(level, 1), partial(GroupNorm, groups))
        self.level = level

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The pyramid, finest first → [B,channels,H,W], the size of the finest."""
        x = maps[self.level]
        if self.level == 0:
            return self.conv[0](x)
        for conv, finer in zip(self.conv, reversed(maps[: self.level]), strict=True):
            # the sides of `finer` are twice those of x if the canvas is a multiple of the strides
            x = F.interpolate(conv(x), size=finer.shape[2:], mode="bilinear", align_corners=False)
        return x


class SemanticHead(nn.Module):
    """Semantic segmentation at stride 4: one class for all things, and each class of stuff."""

    def __init__(self, in_channels: int, channels: int, num_stuff_classes: int, groups: int) -> None:
        super().__init__()
        self.conv_upsample_layers = nn.ModuleList(
            ConvUpsample(level, in_channels, channels, groups) for level in range(LEVELS)
        )
        self.conv_logits = nn.Conv2d(channels, 1 + num_stuff_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The pyramid, finest first → logits [B,1+num_stuff_classes,H/4,W/4], things first."""
        total, *others = (layer(maps) for layer in self.conv_upsample_layers)
        for other in others:
            total = total + other
        return self.conv_logits(total)


# Names of detectron2. A level is a Sequential in which every second layer is an upsampling.
RENAMES = (
    *(
        Rename(
            rf"^sem_seg_head\.p{level + 2}\.{2 * block}\.",
            f"semantic_head.conv_upsample_layers.{level}.conv.{block}.",
        )
        for level in range(LEVELS)
        for block in range(max(level, 1))
    ),
    Rename(r"^(semantic_head\.conv_upsample_layers\.\d\.conv\.\d\.)norm\.", r"\1gn."),
    Rename(r"^(semantic_head\.conv_upsample_layers\.\d\.conv\.\d\.)weight$", r"\1conv.weight"),
    Rename(r"^sem_seg_head\.predictor\.", "semantic_head.conv_logits."),
    *RCNN.renames,
)


class PanopticFPN(RCNN):
    """Mask R-CNN and a semantic head on one pyramid; `samebox.postprocess.panoptic` merges their outputs."""

    renames: ClassVar[tuple[Rename, ...]] = RENAMES

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        rpn_head: RPNHead,
        roi_head: RoIHead,
        semantic_head: SemanticHead,
    ) -> None:
        super().__init__(backbone, neck, rpn_head, roi_head)
        self.semantic_head = semantic_head
        self.outputs = PANOPTIC

    @property
    def head_outputs(self) -> tuple[str, ...]:
        """As RCNN.head_outputs, then semantics: logits [B,S,H/4,W/4]."""
        return (*super().head_outputs, "semantics")

    def head_tensors(self, maps: Sequence[Tensor], sizes: Tensor) -> tuple[Tensor, ...]:
        """As RCNN.head_tensors."""
        return (*super().head_tensors(maps, sizes), self.semantic_head(maps))

    def detect(self, maps: Sequence[Tensor], sizes: Tensor) -> dict[str, Tensor]:
        """As RCNN.detect."""
        return super().detect(maps, sizes) | {"semantics": self.semantic_head(maps)}
