"""Convolution with an optional norm and activation: the unit of every neck and head."""

from torch import Tensor, nn


class ConvModule(nn.Module):
    """Convolution, then ReLU unless `activation` is off. Parameters: `conv.*`, as upstream names them."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, activation: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)
        self.activation = nn.ReLU() if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B,inputs,H,W] → [B,outputs,ceil(H/stride),ceil(W/stride)]."""
        return self.activation(self.conv(x))
