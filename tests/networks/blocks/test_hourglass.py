import pytest
import torch
from torch import nn

from samebox.networks.blocks.hourglass import Hourglass, HourglassNet


@pytest.mark.parametrize("size", [(32, 48), (23, 37)])
def test_the_size_of_the_map_is_kept(size):
    x = torch.rand(1, 4, *size)
    assert Hourglass([4, 6, 8], [1, 2, 1])(x).shape == x.shape


def test_the_smaller_size_is_upsampled_and_added():
    hourglass = Hourglass([2, 2], [1, 1]).eval()
    for part in ("up1", "low2", "low3"):
        setattr(hourglass, part, nn.Identity())
    hourglass.low1 = nn.AvgPool2d(2)
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    upsampled = nn.functional.avg_pool2d(x, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert hourglass(x).equal(x + upsampled)


def test_each_hourglass_returns_a_map_of_stride_4():
    maps = HourglassNet(2, [8, 8, 12], [1, 1, 2]).eval()(torch.rand(2, 3, 95, 127))
    assert [tuple(x.shape) for x in maps] == [(2, 8, 24, 32)] * 2


def test_parameter_names():
    names = set(HourglassNet(2, [8, 8, 12], [1, 1, 2]).state_dict())
    assert {
        "stem.0.conv.weight",
        "stem.1.0.downsample.0.weight",
        "hourglass_modules.1.up1.0.conv1.weight",
        "hourglass_modules.0.low2.low2.1.bn2.weight",
        "hourglass_modules.0.low2.low3.0.downsample.1.weight",
        "inters.0.conv1.weight",
        "conv1x1s.0.conv.weight",
        "remap_convs.0.bn.weight",
        "out_convs.1.conv.weight",
    } <= names
