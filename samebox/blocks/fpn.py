"""Feature Pyramid Network (Lin et al., 2017, arXiv:1612.03144)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from samebox.blocks.conv import ConvModule
from samebox.errors import SameboxError


class FPN(nn.Module):
    """Backbone maps of ascending stride → `num_outs` maps of `out_channels` channels.

    `in_channels`: of the maps that come in, finest first. Levels beyond them are stride-2 3x3
    convolutions, the first of them taken from the coarsest map that came in ("on_input") or that goes
    out ("on_output"). Parameters: `lateral_convs.i.conv`, `fpn_convs.i.conv`.
    """

    def __init__(
        self, in_channels: Sequence[int], out_channels: int, num_outs: int, extra_convs: str
    ) -> None:
        super().__init__()
        if extra_convs not in ("on_input", "on_output"):
            raise SameboxError(f"FPN has no extra_convs {extra_convs!r}; take on_input or on_output")
        self.lateral_convs = nn.ModuleList(
            ConvModule(channels, out_channels, 1, activation=False) for channels in in_channels
        )
        self.fpn_convs = nn.ModuleList(
            ConvModule(out_channels, out_channels, 3, activation=False) for _ in in_channels
        )
        first = in_channels[-1] if extra_convs == "on_input" else out_channels
        for channels in [first, *[out_channels] * num_outs][: num_outs - len(in_channels)]:
            self.fpn_convs.append(ConvModule(channels, out_channels, 3, stride=2, activation=False))
        self.extra_convs = extra_convs

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """[B,C_i,H_i,W_i], finest first → [B,out_channels,H_i,W_i], then each level half the one before."""
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, maps, strict=True)]
        for level in range(len(laterals) - 1, 0, -1):
            # to the finer level's own size: it is not always twice the coarser one
            finer = laterals[level - 1]
            laterals[level - 1] = finer + F.interpolate(laterals[level], size=finer.shape[2:], mode="nearest")
        outs = [conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=False)]
        extra = maps[-1] if self.extra_convs == "on_input" else outs[-1]
        for conv in list(self.fpn_convs)[len(outs) :]:
            extra = conv(extra)
            outs.append(extra)
        return outs
