"""SSD: Single Shot MultiBox Detector (Liu et al., 2015, arXiv:1512.02325), and SSDLite (arXiv:1801.04381).

Parameters are named as in MMDetection: `backbone.*`, `neck.l2_norm.weight`, `neck.extra_layers.i.{0,1}`,
`bbox_head.{cls_convs,reg_convs}.i.j`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from samebox.networks.blocks.anchors import SizedAnchors
from samebox.networks.blocks.boxes import decode_deltas
from samebox.networks.blocks.conv import ConvModule
from samebox.networks.blocks.dense import candidates, class_probabilities
from samebox.networks.blocks.mobilenet import DepthwiseSeparable
from samebox.networks.nets.one_stage import OneStage

Norm = Callable[[int], nn.Module]
Activation = Callable[[], nn.Module]


class SSDNeck(nn.Module):
    """Appends a level to the backbone's maps for each of `extra_channels`.

    A level is computed from the one before it by a 1x1 convolution to half its channels and a 3x3
    convolution. `in_channels`: of the backbone's maps, finest first. `strides` and `paddings`: of the 3x3
    convolutions, which are depthwise separable if there is a `norm`. `l2_norm`: applied to the finest map, or
    None.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        extra_channels: Sequence[int],
        strides: Sequence[int],
        paddings: Sequence[int],
        l2_norm: nn.Module | None = None,
        norm: Norm | None = None,
        activation: Activation = nn.ReLU,
    ) -> None:
        super().__init__()
        self.l2_norm = l2_norm
        self.extra_layers = nn.ModuleList()
        widths = pairwise([in_channels[-1], *extra_channels])
        for (inputs, outputs), stride, padding in zip(widths, strides, paddings, strict=True):
            half = outputs // 2
            narrow = ConvModule(inputs, half, 1, norm=norm and norm(half), activation=activation)
            wide = (
                ConvModule(half, outputs, 3, stride, padding=padding, activation=activation)
                if norm is None
                else DepthwiseSeparable(
                    half, outputs, 3, stride, padding=padding, norm=norm, activation=activation
                )
            )
            self.extra_layers.append(nn.Sequential(narrow, wide))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """[B,C_i,H_i,W_i], finest first → the same levels, then the extra ones."""
        outs = list(maps)
        if self.l2_norm is not None:
            outs[0] = self.l2_norm(outs[0])
        for layer in self.extra_layers:
            outs.append(layer(outs[-1]))
        return outs


class SSDHead(nn.Module):
    """Class logits, with the background last, and box deltas of every anchor, by level-specific convolutions.

    `in_channels`: of the levels, finest first. `stds` [4]: see `decode_deltas`. With a `norm` the
    convolutions are SSDLite's: 3x3 depthwise, then 1x1. In shapes, A_i is the number of anchors at a cell of
    level i.
    """

    stds: Tensor

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        anchors: SizedAnchors,
        stds: Sequence[float],
        norm: Norm | None = None,
        activation: Activation = nn.ReLU,
    ) -> None:
        super().__init__()

        def predictor(channels: int, outputs: int) -> nn.Sequential:
            if norm is None:
                return nn.Sequential(nn.Conv2d(channels, outputs, 3, padding=1))
            depthwise = ConvModule(
                channels, channels, 3, groups=channels, norm=norm(channels), activation=activation
            )
            return nn.Sequential(depthwise, nn.Conv2d(channels, outputs, 1))

        levels = list(zip(in_channels, anchors.per_cell, strict=True))
        self.cls_convs = nn.ModuleList(predictor(c, per_cell * (num_classes + 1)) for c, per_cell in levels)
        self.reg_convs = nn.ModuleList(predictor(c, per_cell * 4) for c, per_cell in levels)
        self.num_classes = num_classes
        self.anchors = anchors
        self.strides = anchors.strides
        self.register_buffer("stds", torch.tensor(stds), persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """[B,C_i,H_i,W_i], finest first → of each logits [B,A_i*(num_classes+1),…], deltas [B,A_i*4,…]."""
        convs = zip(self.cls_convs, self.reg_convs, strict=True)
        return [(classes(x), boxes(x)) for x, (classes, boxes) in zip(maps, convs, strict=True)]


class SSD(OneStage):
    """A OneStage with anchors, whose scores are a softmax over the classes and the background.

    Boxes that have no area after clipping to their image are dropped.
    """

    bbox_head: SSDHead
    map_parts = ("logits", "deltas")

    def levels(self, images: Tensor, sizes: Tensor) -> list[tuple[Tensor, ...]]:
        """As OneStage.levels, see SSDHead.forward."""
        return self.bbox_head(self.neck(self.backbone(images)))

    def forward(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] and sizes [B,2] → the outputs, see `samebox.networks.nets.contract`."""
        head = self.bbox_head
        levels = [
            (class_probabilities(logits.unflatten(1, (per_cell, -1))).flatten(1, 2), deltas)
            for per_cell, (logits, deltas) in zip(
                head.anchors.per_cell, self.levels(images, sizes), strict=True
            )
        ]
        selected = candidates(
            levels,
            head.anchors,
            head.num_classes,
            self.nms_pre,
            self.score_threshold,
            sizes,
            decode=partial(decode_deltas, stds=head.stds),
            score=nn.Identity(),
        )
        return dict(zip(self.outputs, self.nms(*selected), strict=True))
