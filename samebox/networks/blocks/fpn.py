"""Feature Pyramid Network (Lin et al., 2017, arXiv:1612.03144)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from samebox.core.errors import SameboxError
from samebox.networks.blocks.conv import ConvModule

EXTRA_LEVELS = ("pool", "conv_on_input", "conv_on_output")


class FPN(nn.Module):
    """Backbone maps, finest first → `num_outs` maps of `out_channels` channels.

    `in_channels`: of the backbone maps. `extra_levels` selects how the levels coarser than these are
    computed:

    - "pool": each takes every second cell of the level before it;
    - "conv_on_input": by 3x3 convolutions of stride 2, the first on the coarsest backbone map;
    - "conv_on_output": by 3x3 convolutions of stride 2, the first on the coarsest FPN output.

    With `relu_between` a ReLU precedes every such convolution except the first. Parameters are named as in
    MMDetection: `lateral_convs.i.conv`, `fpn_convs.i.conv`. Raises SameboxError for another `extra_levels`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        extra_levels: str,
        relu_between: bool = False,
    ) -> None:
        super().__init__()
        if extra_levels not in EXTRA_LEVELS:
            choices = ", ".join(EXTRA_LEVELS)
            raise SameboxError(f"neck.extra_levels: {extra_levels!r} is none of {choices}")
        self.lateral_convs = nn.ModuleList(
            ConvModule(channels, out_channels, 1, activation=nn.Identity) for channels in in_channels
        )
        self.fpn_convs = nn.ModuleList(
            ConvModule(out_channels, out_channels, 3, activation=nn.Identity) for _ in in_channels
        )
        self.extra = num_outs - len(in_channels)
        self.extra_levels = extra_levels
        self.relu_between = relu_between
        if extra_levels != "pool":
            first = in_channels[-1] if extra_levels == "conv_on_input" else out_channels
            for channels in [first, *[out_channels] * num_outs][: self.extra]:
                self.fpn_convs.append(ConvModule(channels, out_channels, 3, stride=2, activation=nn.Identity))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """[B,C_i,H_i,W_i], finest first → [B,out_channels,H_i,W_i], then each extra level halved."""
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, maps, strict=True)]
        for level in range(len(laterals) - 1, 0, -1):
            finer = laterals[level - 1]  # its sides are not always twice those of the coarser level
            laterals[level - 1] = finer + F.interpolate(laterals[level], size=finer.shape[2:], mode="nearest")
        outs = [conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=False)]
        extra = maps[-1] if self.extra_levels == "conv_on_input" else outs[-1]
        for level in range(len(outs), len(outs) + self.extra):
            if self.relu_between and level > len(maps):
                extra = F.relu(extra)
            pooled = self.extra_levels == "pool"
            extra = F.max_pool2d(extra, 1, stride=2) if pooled else self.fpn_convs[level](extra)
            outs.append(extra)
        return outs
