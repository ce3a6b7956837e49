"""ResNet (He et al., 2015, arXiv:1512.03385) as a backbone: feature maps at strides 4, 8, 16, 32."""

from collections.abc import Sequence

from torch import Tensor, nn

from samebox.core.errors import SameboxError


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut. The first has the stride, whatever the `style`."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int, style: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.downsample = shortcut(inputs, planes * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B,inputs,H,W] → [B,planes,H/stride,W/stride]."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + self.downsample(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut.

    The stride is in the 3x3 convolution (style "pytorch") or in the first 1x1 (style "caffe").
    """

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int, style: str) -> None:
        super().__init__()
        first, second = (stride, 1) if style == "caffe" else (1, stride)
        self.conv1 = nn.Conv2d(inputs, planes, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.relu = nn.ReLU()
        self.downsample = shortcut(inputs, planes * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B,inputs,H,W] → [B,4*planes,H/stride,W/stride]."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + self.downsample(x))


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """A 1x1 projection if the shape changes, else the identity."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


DEPTHS: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}


class ResNet(nn.Module):
    """ResNet without its classifier: [B,3,H,W] → the maps of the stages in `out_stages`, finest first.

    Stage s in 0..3 has stride 4·2^s and `base_channels`·2^s channels, or four times as many from depth 50 on.
    `style`: see Bottleneck. `norm_eps`: the BatchNorms' epsilon, 0 in maskrcnn-benchmark. Parameters are
    named as in torchvision and MMDetection: `conv1`, `bn1`, `layer1.0.conv1`, … Raises SameboxError for
    another `depth` or `style`.
    """

    def __init__(
        self,
        depth: int,
        style: str = "pytorch",
        base_channels: int = 64,
        out_stages: Sequence[int] = (0, 1, 2, 3),
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise SameboxError(f"ResNet has no depth {depth}; use one of {', '.join(map(str, DEPTHS))}")
        if style not in ("pytorch", "caffe"):
            raise SameboxError(f"ResNet has no style {style!r}; use pytorch or caffe")
        block, repeats = DEPTHS[depth]
        self.conv1 = nn.Conv2d(3, base_channels, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(base_channels)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        channels = base_channels
        for stage, repeat in enumerate(repeats):
            planes = base_channels * 2**stage
            blocks: list[nn.Module] = []
            for index in range(repeat):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(block(channels, planes, stride, style))
                channels = planes * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.out_stages = tuple(out_stages)
        for norm in self.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.eps = norm_eps

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B,3,H,W] → [B,C,H/stride,W/stride] for each of `out_stages`; halvings round up."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = []
        for stage in range(max(self.out_stages) + 1):
            x = self.get_submodule(f"layer{stage + 1}")(x)
            if stage in self.out_stages:
                maps.append(x)
        return maps
