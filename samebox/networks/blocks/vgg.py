"""VGG-16 (Simonyan and Zisserman, 2014, arXiv:1409.1556) as the backbone of SSD (arXiv:1512.02325)."""

import torch
from torch import Tensor, nn

# For each stage: number of convolutions, channels as a multiple of `base_channels`
STAGES = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))


class VGG16(nn.Module):
    """[B,3,H,W] → the maps of conv4_3 and conv7, both after their ReLU, at strides 8 and 16.

    They have 8·`base_channels` and `fc_channels` channels. The fully connected layers are convolutions; the
    first is dilated, and the fifth pooling before it keeps the size. Parameters are named as in torchvision
    and MMDetection: `features.i`.
    """

    def __init__(self, base_channels: int = 64, fc_channels: int = 1024) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stage, (convs, times) in enumerate(STAGES, 1):
            for _ in range(convs):
                layers += [nn.Conv2d(channels, base_channels * times, 3, padding=1), nn.ReLU()]
                channels = base_channels * times
            if stage == 4:
                self.conv4_3_index = len(layers) - 1
            if stage < len(STAGES):
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(
            *layers,
            nn.MaxPool2d(3, stride=1, padding=1),
            nn.Conv2d(channels, fc_channels, 3, padding=6, dilation=6),
            nn.ReLU(),
            nn.Conv2d(fc_channels, fc_channels, 1),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B,3,H,W] → two maps; every halving of height and width rounds up."""
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in (self.conv4_3_index, len(self.features) - 1):
                maps.append(x)
        return maps


class L2Norm(nn.Module):
    """L2 normalisation over channels and a learned factor per channel (ParseNet, arXiv:1506.04579)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 20.0))

    def forward(self, x: Tensor) -> Tensor:
        """[B,channels,H,W] → the same shape; a cell of zeros stays zero."""
        norm = x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10
        return self.weight[:, None, None] * x / norm
