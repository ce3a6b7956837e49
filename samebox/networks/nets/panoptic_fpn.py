"""Panoptic FPN (Kirillov et al., 2019, arXiv:1901.02446): Mask R-CNN, and the class of every pixel.

Parameters are named as in MMDetection: those of `rcnn`, and of the level i
`semantic_head.conv_upsample_layers.i.conv.j.{conv,gn}`, then `semantic_head.conv_logits`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from samebox.checkpoints.weights import Rename
from samebox.networks.blocks.conv import ConvModule
from samebox.networks.blocks.valid import GroupNorm
from samebox.networks.nets.contract import PANOPTIC
from samebox.networks.nets.rcnn import RCNN, RoIHead
from samebox.networks.nets.rpn import RPNHead

LEVELS = 4  # of the pyramid, strides 4 to 32


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    """[B,C,h,w] → [B,C,H,W], the size of `like` [B,…,H,W], bilinearly."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


class ConvUpsample(nn.Module):
    """Blocks of a 3x3 convolution, GroupNorm and ReLU, the map enlarged after each but at the finest level.

    `level`: how many levels of the pyramid are finer.
    """

    def __init__(self, level: int, in_channels: int, channels: int, groups: int) -> None:
        super().__init__()
        widths = [in_channels, *[channels] * max(level, 1)]
        self.conv = nn.ModuleList(
            ConvModule(i, o, 3, norm=GroupNorm(groups, channels)) for i, o in pairwise(widths)
        )
        self.level = level

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The pyramid, finest first → [B,channels,H,W], the size of the finest."""
        x = maps[self.level]
        if self.level == 0:
            return self.conv[0](x)
        for conv, finer in zip(self.conv, reversed(maps[: self.level]), strict=True):
            # to the finer level's own size: on a canvas of whole strides, twice
            x = enlarged(conv(x), finer)
        return x


class SemanticHead(nn.Module):
    """The class of every cell of stride 4: things, all in one, and each class of stuff."""

    def __init__(self, in_channels: int, channels: int, num_stuff_classes: int, groups: int) -> None:
        super().__init__()
        self.conv_upsample_layers = nn.ModuleList(
            ConvUpsample(level, in_channels, channels, groups) for level in range(LEVELS)
        )
        self.conv_logits = nn.Conv2d(channels, 1 + num_stuff_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The pyramid, finest first → logits [B,1+num_stuff_classes,H/4,W/4], things first."""
        finest, *others = (layer(maps) for layer in self.conv_upsample_layers)
        for other in others:
            finest = finest + other
        return self.conv_logits(finest)


# detectron2 counts a level's enlargements among its layers
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
    """Mask R-CNN and a semantic head on the same pyramid; `postprocess.panoptic` merges their outputs."""

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
        """Those of RCNN, then semantics, logits [B,S,H/4,W/4]."""
        return (*super().head_outputs, "semantics")

    def head_values(self, maps: Sequence[Tensor], sizes: Tensor) -> tuple[Tensor, ...]:
        """What `heads` gives, from the pyramid on."""
        return (*super().head_values(maps, sizes), self.semantic_head(maps))

    def found_in(self, maps: Sequence[Tensor], sizes: Tensor) -> dict[str, Tensor]:
        """What `forward` gives, from the pyramid on."""
        return super().found_in(maps, sizes) | {"semantics": self.semantic_head(maps)}
