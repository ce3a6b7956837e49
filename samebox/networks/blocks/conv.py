"""Convolution with an optional norm and activation (MMCV's ConvModule), used in necks and heads."""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn


class ConvModule(nn.Module):
    """Convolution, `norm` if given, `activation`.

    Parameters are named as in MMCV: `conv.*` (with a bias only if there is no norm), then `gn.*` for a
    GroupNorm or `bn.*` for any other norm. The default `padding` keeps the map's size at stride 1.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        norm: nn.Module | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        padding = kernel // 2 * dilation if padding is None else padding
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=norm is None)
        self.norm_name = "gn" if isinstance(norm, nn.GroupNorm) else "bn"
        self.add_module(self.norm_name, norm)
        self.activation = activation()

    def forward(self, x: Tensor, *norm_inputs: Tensor | None) -> Tensor:
        """[B,inputs,H,W] → [B,outputs,H',W']; with the default padding ceil(H/stride), ceil(W/stride).

        `norm_inputs`: further arguments of the norm, such as the valid cells of `blocks.valid.GroupNorm`.
        """
        x = self.conv(x)
        norm = getattr(self, self.norm_name)
        return self.activation(x if norm is None else norm(x, *norm_inputs))


def conv_tower(
    in_channels: int, channels: int, convs: int, norm: Callable[[int], nn.Module] | None = None
) -> nn.ModuleList:
    """`convs` 3x3 ConvModules in a row, with `norm(channels)` if given: the trunk of most heads."""
    widths = pairwise([in_channels, *[channels] * convs])
    return nn.ModuleList(ConvModule(i, o, 3, norm=norm and norm(o)) for i, o in widths)
