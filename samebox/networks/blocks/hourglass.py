"""Hourglass network (Newell et al., 2016, arXiv:1603.06937) as CornerNet has it."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from samebox.networks.blocks.conv import ConvModule
from samebox.networks.blocks.resnet import BasicBlock


def blocks(inputs: int, outputs: int, count: int, stride: int = 1) -> nn.Sequential:
    """`count` residual blocks, the first of which changes channels and size."""
    widths = [inputs, *[outputs] * count]
    return nn.Sequential(
        *(BasicBlock(i, o, stride if n == 0 else 1, "pytorch") for n, (i, o) in enumerate(pairwise(widths)))
    )


def with_norm(
    inputs: int, outputs: int, kernel: int, stride: int = 1, activation: type[nn.Module] = nn.ReLU
) -> ConvModule:
    """Convolution, BatchNorm, activation."""
    return ConvModule(inputs, outputs, kernel, stride, norm=nn.BatchNorm2d(outputs), activation=activation)


class Hourglass(nn.Module):
    """Halves a map as often as there are further `channels`, and brings each size back onto the one before.

    `channels` and `counts` of residual blocks: at each size, largest first.
    """

    def __init__(self, channels: Sequence[int], counts: Sequence[int]) -> None:
        super().__init__()
        (own, inner, *_), count = channels, counts[0]
        self.up1 = blocks(own, own, count)
        self.low1 = blocks(own, inner, count, stride=2)
        deepest = len(channels) == 2
        self.low2 = blocks(inner, inner, counts[1]) if deepest else Hourglass(channels[1:], counts[1:])
        self.low3 = nn.Sequential(*blocks(inner, inner, count - 1), *blocks(inner, own, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] → the same shape."""
        low = self.low3(self.low2(self.low1(x)))
        # to the larger map's own size: it is not always twice the smaller one
        return self.up1(x) + F.interpolate(low, size=x.shape[2:], mode="nearest")


class HourglassNet(nn.Module):
    """[B,3,H,W] → the map [B,channels[0],H/4,W/4] after each of `stacks` hourglasses, one after the other.

    Parameters are named as in MMDetection: `stem`, `hourglass_modules.i.{up1,low1,low2,low3}`, `out_convs.i`,
    `conv1x1s.i`, `remap_convs.i`, `inters.i`.
    """

    def __init__(self, stacks: int, channels: Sequence[int], counts: Sequence[int]) -> None:
        super().__init__()
        width = channels[0]
        self.stem = nn.Sequential(with_norm(3, width // 2, 7, 2), blocks(width // 2, width, 1, stride=2))
        self.hourglass_modules = nn.ModuleList(Hourglass(channels, counts) for _ in range(stacks))
        self.out_convs = nn.ModuleList(with_norm(width, width, 3) for _ in range(stacks))
        self.conv1x1s, self.remap_convs = (
            nn.ModuleList(with_norm(width, width, 1, activation=nn.Identity) for _ in range(stacks - 1))
            for _ in range(2)
        )
        self.inters = nn.ModuleList(BasicBlock(width, width, 1, "pytorch") for _ in range(stacks - 1))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> list[Tensor]:
        """See the class."""
        x = self.stem(x)
        maps: list[Tensor] = []
        for stack, (hourglass, out_conv) in enumerate(
            zip(self.hourglass_modules, self.out_convs, strict=True)
        ):
            if maps:
                both = self.conv1x1s[stack - 1](x) + self.remap_convs[stack - 1](maps[-1])
                x = self.inters[stack - 1](self.relu(both))
            maps.append(out_conv(hourglass(x)))
        return maps
