"""Convolution with an optional norm and activation: the unit of every neck and head."""

from collections.abc import Callable

from torch import Tensor, nn


class ConvModule(nn.Module):
    """Convolution, `norm` if given, `activation`.

    Parameters, as upstream names them: `conv.*` (a bias only where no norm follows), and `bn.*` or `gn.*`
    after the kind of the norm. `padding` keeps the size unless given.
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
        same = kernel // 2 * dilation if padding is None else padding
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, same, dilation, groups, bias=norm is None)
        self.norm_name = "gn" if isinstance(norm, nn.GroupNorm) else "bn"
        self.add_module(self.norm_name, norm)
        self.activation = activation()

    def forward(self, x: Tensor, *norm_inputs: Tensor | None) -> Tensor:
        """[B,inputs,H,W] → [B,outputs,H',W'], with `padding` not given ceil(H/stride), ceil(W/stride).

        `norm_inputs`: what the norm takes besides.
        """
        x = self.conv(x)
        norm = getattr(self, self.norm_name)
        return self.activation(x if norm is None else norm(x, *norm_inputs))
