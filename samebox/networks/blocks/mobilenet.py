"""MobileNetV2 (Sandler et al., 2018, arXiv:1801.04381) and the depthwise separable convolution."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from samebox.networks.blocks.conv import ConvModule

# For each stage: expansion ratio, channels, number of blocks, stride of the first block
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class DepthwiseSeparable(nn.Module):
    """A depthwise convolution, then a 1x1 convolution; each followed by a norm and an activation.

    Parameters are named as in MMCV: `depthwise_conv.{conv,bn}`, `pointwise_conv.{conv,bn}`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        *,
        padding: int,
        norm: Callable[[int], nn.Module],
        activation: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        self.depthwise_conv = ConvModule(
            inputs,
            inputs,
            kernel,
            stride,
            padding=padding,
            groups=inputs,
            norm=norm(inputs),
            activation=activation,
        )
        self.pointwise_conv = ConvModule(inputs, outputs, 1, norm=norm(outputs), activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """[B,inputs,H,W] → [B,outputs,H',W']."""
        return self.pointwise_conv(self.depthwise_conv(x))


class InvertedResidual(nn.Module):
    """1x1 convolution to `ratio` times the channels, 3x3 depthwise, 1x1 without activation.

    The input is added if neither size nor number of channels changes.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        ratio: int,
        norm: Callable[[int], nn.Module],
        activation: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        width = inputs * ratio
        if ratio > 1:
            self.expand_conv = ConvModule(inputs, width, 1, norm=norm(width), activation=activation)
        self.depthwise_conv = ConvModule(
            width, width, 3, stride, groups=width, norm=norm(width), activation=activation
        )
        self.linear_conv = ConvModule(width, outputs, 1, norm=norm(outputs), activation=nn.Identity)
        self.expands = ratio > 1
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[B,inputs,H,W] → [B,outputs,H/stride,W/stride]."""
        out = self.expand_conv(x) if self.expands else x
        out = self.linear_conv(self.depthwise_conv(out))
        return x + out if self.shortcut else out


class MobileNetV2(nn.Module):
    """MobileNetV2 without its classifier: [B,3,H,W] → the maps of the stages in `out_stages`, finest first.

    Stages 0..6 have 16, 24, 32, 64, 96, 160, 320 channels and strides 2, 4, 8, 16, 16, 32, 32; stage 7 is a
    1x1 convolution to 1280 channels. Parameters are named as in MMDetection: `conv1`,
    `layer1.0.{expand_conv,depthwise_conv,linear_conv}`, …, `conv2`.
    """

    def __init__(
        self,
        out_stages: Sequence[int],
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        activation: Callable[[], nn.Module] = nn.ReLU6,
    ) -> None:
        super().__init__()
        self.conv1 = ConvModule(3, 32, 3, stride=2, norm=norm(32), activation=activation)
        channels = 32
        for stage, (ratio, outputs, repeat, stride) in enumerate(STAGES, 1):
            blocks = nn.Sequential()
            for index in range(repeat):
                first = stride if index == 0 else 1
                blocks.append(InvertedResidual(channels, outputs, first, ratio, norm, activation))
                channels = outputs
            self.add_module(f"layer{stage}", blocks)
        self.conv2 = ConvModule(channels, 1280, 1, norm=norm(1280), activation=activation)
        self.out_stages = tuple(out_stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B,3,H,W] → [B,C,H/stride,W/stride] for each of `out_stages`."""
        x = self.conv1(x)
        maps = []
        for stage in range(max(self.out_stages) + 1):
            x = self.conv2(x) if stage == len(STAGES) else self.get_submodule(f"layer{stage + 1}")(x)
            if stage in self.out_stages:
                maps.append(x)
        return maps
