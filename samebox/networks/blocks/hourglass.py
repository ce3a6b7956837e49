"""Hourglass network (Newell et al., 2016, arXiv:1603.06937) in CornerNet's variant (arXiv:1808.01244)."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from samebox.networks.blocks.conv import ConvModule
from samebox.networks.blocks.resnet import BasicBlock


def residual_blocks(inputs: int, outputs: int, count: int, stride: int = 1) -> nn.Sequential:
    """`count` residual blocks; the first changes the number of channels and applies the stride."""
    widths = [inputs, *[outputs] * count]
    return nn.Sequential(
        *(BasicBlock(i, o, stride if n == 0 else 1, "pytorch") for n, (i, o) in enumerate(pairwise(widths)))
    )


def conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, activation: type[nn.Module] = nn.ReLU
) -> ConvModule:
    """Convolution, BatchNorm, activation."""
    return ConvModule(inputs, outputs, kernel, stride, norm=nn.BatchNorm2d(outputs), activation=activation)


class Hourglass(nn.Module):
    """Halves a map `len(channels) - 1` times; each size is upsampled and added to the next larger one.

    `channels`, and `counts` of residual blocks: at each size, largest first.
    """

    def __init__(self, channels: Sequence[int], counts: Sequence[int]) -> None:
        super().__init__()
        (own, inner, *_), count = channels, counts[0]
        self.up1 = residual_blocks(own, own, count)
        self.low1 = residual_blocks(own, inner, count, stride=2)
        is_smallest = len(channels) == 2
        self.low2 = (
            residual_blocks(inner, inner, counts[1]) if is_smallest else Hourglass(channels[1:], counts[1:])
        )
        self.low3 = nn.Sequential(*residual_blocks(inner, inner, count - 1), *residual_blocks(inner, own, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] → the same shape."""
        low = self.low3(self.low2(self.low1(x)))
        # the sides of x are not always twice those of `low`
        return self.up1(x) + F.interpolate(low, size=x.shape[2:], mode="nearest")


class HourglassNet(nn.Module):
    """A sequence of `stacks` hourglasses: [B,3,H,W] → the map [B,channels[0],H/4,W/4] after each of them.

    Parameters are named as in MMDetection: `stem`, `hourglass_modules.i.{up1,low1,low2,low3}`, `out_convs.i`,
    `conv1x1s.i`, `remap_convs.i`, `inters.i`.
    """

    def __init__(self, stacks: int, channels: Sequence[int], counts: Sequence[int]) -> None:
        super().__init__()
        width = channels[0]
        self.stem = nn.Sequential(
            conv_bn(3, width // 2, 7, 2), residual_blocks(width // 2, width, 1, stride=2)
        )
        self.hourglass_modules = nn.ModuleList(Hourglass(channels, counts) for _ in range(stacks))
        self.out_convs = nn.ModuleList(conv_bn(width, width, 3) for _ in range(stacks))
        self.conv1x1s, self.remap_convs = (
            nn.ModuleList(conv_bn(width, width, 1, activation=nn.Identity) for _ in range(stacks - 1))
            for _ in range(2)
        )
        self.inters = nn.ModuleList(BasicBlock(width, width, 1, "pytorch") for _ in range(stacks - 1))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B,3,H,W] → one map [B,channels[0],H/4,W/4] per hourglass; halvings round up."""
        x = self.stem(x)
        maps: list[Tensor] = []
        for stack, (hourglass, out_conv) in enumerate(
            zip(self.hourglass_modules, self.out_convs, strict=True)
        ):
            if maps:
                merged = self.conv1x1s[stack - 1](x) + self.remap_convs[stack - 1](maps[-1])
                x = self.inters[stack - 1](self.relu(merged))
            maps.append(out_conv(hourglass(x)))
        return maps
