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
from samebox.networks.blocks.dense import candidates, class_probabilities, map_names
from samebox.networks.blocks.mobilenet import DepthwiseSeparable
from samebox.networks.nets.one_stage import OneStage

Norm = Callable[[int], nn.Module]
Activation = Callable[[], nn.Module]


class SSDNeck(nn.Module):
    """The backbone's maps, and one map more for each of `extra_channels`: 1x1 to half of them, then 3x3.

    `in_channels`: of the backbone's maps, finest first. `strides` and `paddings` are those of the 3x3
    convolutions, which are depthwise separable where there is a `norm`. `l2_norm`: for the finest map, or
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
        """[B,C_i,H_i,W_i], finest first → the same, and then the extra levels."""
        outs = list(maps)
        if self.l2_norm is not None:
            outs[0] = self.l2_norm(outs[0])
        for layer in self.extra_layers:
            outs.append(layer(outs[-1]))
        return outs


class SSDHead(nn.Module):
    """Class logits, the background last, and box deltas per anchor, by convolutions of each level's own.

    `in_channels`: of the levels, finest first. `stds` [4]: the unit of the deltas. With a `norm`, SSDLite's
    convolutions: 3x3 of each channel alone, then 1x1.
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
            alone = ConvModule(
                channels, channels, 3, groups=channels, norm=norm(channels), activation=activation
            )
            return nn.Sequential(alone, nn.Conv2d(channels, outputs, 1))

        levels = list(zip(in_channels, anchors.kinds, strict=True))
        self.cls_convs = nn.ModuleList(predictor(c, kinds * (num_classes + 1)) for c, kinds in levels)
        self.reg_convs = nn.ModuleList(predictor(c, kinds * 4) for c, kinds in levels)
        self.num_classes = num_classes
        self.anchors = anchors
        self.register_buffer("stds", torch.tensor(stds), persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """[B,C_i,H_i,W_i], finest first → logits [B,kinds_i*(num_classes+1),…], deltas [B,kinds_i*4,…]."""
        convs = zip(self.cls_convs, self.reg_convs, strict=True)
        return [(classes(x), boxes(x)) for x, (classes, boxes) in zip(maps, convs, strict=True)]


class SSD(OneStage):
    """Backbone, extra levels, head; then the `nms_pre` best pairs of each level, decoded, and one NMS.

    Pairs with a probability of at most `score_threshold` are dropped, and so is a box that clipping to its
    image leaves without an area.
    """

    bbox_head: SSDHead

    @property
    def head_outputs(self) -> tuple[str, ...]:
        """What `heads` gives, by the stride of the level: logits_8, deltas_8, logits_16, …."""
        return map_names(("logits", "deltas"), self.bbox_head.anchors.strides)

    def heads(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] → the head's maps, finest level first, see SSDHead.forward."""
        levels = self.bbox_head(self.neck(self.backbone(images)))
        return dict(zip(self.head_outputs, (x for level in levels for x in level), strict=True))

    def forward(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] and sizes [B,2] → the outputs of `samebox.networks.nets.contract`."""
        head, maps = self.bbox_head, list(self.heads(images, sizes).values())
        levels = [
            (class_probabilities(logits.unflatten(1, (kinds, -1))).flatten(1, 2), deltas)
            for kinds, logits, deltas in zip(head.anchors.kinds, maps[::2], maps[1::2], strict=True)
        ]
        found = candidates(
            levels,
            head.anchors,
            head.num_classes,
            self.nms_pre,
            self.score_threshold,
            sizes,
            decode=partial(decode_deltas, stds=head.stds),
            score=nn.Identity(),
        )
        return dict(zip(self.outputs, self.nms(*found), strict=True))
