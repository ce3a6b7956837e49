from functools import partial

import pytest
import torch
from torch import nn

from samebox.networks.blocks.mobilenet import DepthwiseSeparable, InvertedResidual, MobileNetV2


def conv_names(network):
    """Names of the ConvModules, in order."""
    return [name.removesuffix(".conv.weight") for name in network.state_dict() if "conv.weight" in name]


def test_names_and_number_of_parameters():
    """torchvision's MobileNetV2 has 3,504,872 parameters, of which its classifier has 1,281,000."""
    with torch.device("meta"):
        network = MobileNetV2([7])
    blocks = [f"layer{s}.{i}" for s, n in enumerate((1, 2, 3, 4, 3, 3, 1), 1) for i in range(n)]
    parts = ("expand_conv", "depthwise_conv", "linear_conv")
    inner = [
        f"{block}.{part}" for block in blocks for part in parts if (block, part) != ("layer1.0", parts[0])
    ]
    assert conv_names(network) == ["conv1", *inner, "conv2"]
    assert sum(p.numel() for p in network.parameters()) == 3_504_872 - 1_281_000


def test_channels_and_sizes_of_the_stages():
    maps = MobileNetV2(range(8)).eval()(torch.rand(1, 3, 64, 70))
    channels = (16, 24, 32, 64, 96, 160, 320, 1280)
    sizes = ((32, 35), (16, 18), (8, 9), (4, 5), (4, 5), (2, 3), (2, 3), (2, 3))
    assert [x.shape[1:] for x in maps] == [(c, *size) for c, size in zip(channels, sizes, strict=True)]


def test_only_the_stages_in_out_stages_are_returned():
    network, x = MobileNetV2([2, 4, 6]).eval(), torch.rand(1, 3, 32, 32)
    selected = network(x)
    network.out_stages = (0, 2, 4, 6, 7)
    _, *expected, _ = network(x)
    assert [len(selected), len(expected)] == [3, 3]
    assert all(a.equal(b) for a, b in zip(selected, expected, strict=True))


@pytest.mark.parametrize(
    ("outputs", "stride", "added"), [(8, 1, True), (8, 2, False), (6, 1, False)], ids=str
)
def test_the_input_is_added_if_the_shape_is_unchanged(outputs, stride, added):
    block, x = (
        InvertedResidual(8, outputs, stride, 6, nn.BatchNorm2d, nn.ReLU6).eval(),
        torch.randn(1, 8, 4, 4),
    )
    for parameter in block.linear_conv.parameters():
        parameter.data.zero_()
    assert block(x).any() == added
    assert not added or block(x).equal(x)


def test_given_norms_and_activations_are_used():
    norm, activation = partial(nn.BatchNorm2d, eps=0.001), partial(nn.LeakyReLU, 0.1)
    for network in (
        MobileNetV2([7], norm, activation),
        DepthwiseSeparable(4, 6, 3, 2, padding=1, norm=norm, activation=activation),
    ):
        norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        assert {m.eps for m in norms} == {0.001}
        others = {m for m in network.modules() if not list(m.children())} - set(norms)
        types = {type(m) for m in others}
        assert types <= {nn.Conv2d, nn.LeakyReLU, nn.Identity}
        assert nn.LeakyReLU in types


def test_depthwise_convolution_then_pointwise():
    module = DepthwiseSeparable(4, 6, 3, 2, padding=1, norm=nn.BatchNorm2d, activation=nn.ReLU6).eval()
    assert conv_names(module) == ["depthwise_conv", "pointwise_conv"]
    assert module.depthwise_conv.conv.weight.shape == (4, 1, 3, 3)
    result = module(torch.rand(1, 4, 5, 7) * 1000)
    assert result.shape == (1, 6, 3, 4)
    assert 0 <= result.min() < result.max() <= 6
