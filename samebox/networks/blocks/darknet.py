"""Darknet-53, the backbone of YOLOv3 (Redmon and Farhadi, 2018, arXiv:1804.02767)."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from samebox.networks.blocks.conv import ConvModule

# The activation of Darknet and of the networks built on it
leaky_relu = partial(nn.LeakyReLU, 0.1)


def conv_bn_leaky(inputs: int, outputs: int, kernel: int, stride: int = 1) -> ConvModule:
    """Convolution, BatchNorm and leaky ReLU of slope 0.1: the unit of Darknet and YOLOv3."""
    return ConvModule(inputs, outputs, kernel, stride, norm=nn.BatchNorm2d(outputs), activation=leaky_relu)


class ResBlock(nn.Module):
    """A 1x1 convolution to half the channels and a 3x3 back to all, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv_bn_leaky(channels, channels // 2, 1)
        self.conv2 = conv_bn_leaky(channels // 2, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[B,channels,H,W] → the same shape."""
        return x + self.conv2(self.conv1(x))


class Darknet(nn.Module):
    """Darknet-53 without its classifier: [B,3,H,W] → the maps of the last three stages, strides 8, 16, 32.

    Stage s in 1..5 halves the map and has `base_channels`·2^s channels and `repeats[s-1]` residual blocks.
    Parameters are named as in MMDetection: `conv1`, `conv_res_block1.conv`, `conv_res_block1.res0.conv1`, …
    """

    def __init__(self, base_channels: int = 32, repeats: Sequence[int] = (1, 2, 8, 8, 4)) -> None:
        super().__init__()
        self.conv1 = conv_bn_leaky(3, base_channels, 3)
        for stage, repeat in enumerate(repeats, 1):
            channels = base_channels * 2**stage
            blocks = nn.Sequential()
            blocks.add_module("conv", conv_bn_leaky(channels // 2, channels, 3, stride=2))
            for index in range(repeat):
                blocks.add_module(f"res{index}", ResBlock(channels))
            self.add_module(f"conv_res_block{stage}", blocks)
        self.stages = len(repeats)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B,3,H,W] → three maps, finest first; every halving of height and width rounds up."""
        x = self.conv1(x)
        maps = []
        for stage in range(1, self.stages + 1):
            x = self.get_submodule(f"conv_res_block{stage}")(x)
            maps.append(x)
        return maps[-3:]
