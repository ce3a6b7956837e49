from functools import partial

import pytest
import torch
from torch import nn

from samebox.networks.blocks.mobilenet import DepthwiseSeparable, InvertedResidual, MobileNetV2


def modules(network):
    """The convolutions, by the names of what holds them."""
    return [name.removesuffix(".conv.weight") for name in network.state_dict() if "conv.weight" in name]


def test_names_and_size():
    """As many parameters as MobileNetV2 of torchvision, 3,504,872, less those of its classifier."""
    with torch.device("meta"):
        network = MobileNetV2([7])
    blocks = [f"layer{s}.{i}" for s, n in enumerate((1, 2, 3, 4, 3, 3, 1), 1) for i in range(n)]
    parts = ("expand_conv", "depthwise_conv", "linear_conv")
    inner = [
        f"{block}.{part}" for block in blocks for part in parts if (block, part) != ("layer1.0", parts[0])
    ]
    assert modules(network) == ["conv1", *inner, "conv2"]
    assert sum(p.numel() for p in network.parameters()) == 3_504_872 - 1_281_000


def test_maps_of_the_stages():
    maps = MobileNetV2(range(8)).eval()(torch.rand(1, 3, 64, 70))
    channels = (16, 24, 32, 64, 96, 160, 320, 1280)
    sizes = ((32, 35), (16, 18), (8, 9), (4, 5), (4, 5), (2, 3), (2, 3), (2, 3))
    assert [x.shape[1:] for x in maps] == [(c, *size) for c, size in zip(channels, sizes, strict=True)]


def test_only_the_stages_asked_for():
    network, x = MobileNetV2([2, 4, 6]).eval(), torch.rand(1, 3, 32, 32)
    found = network(x)
    network.out_stages = (0, 2, 4, 6, 7)
    _, *expected, _ = network(x)
    assert [len(found), len(expected)] == [3, 3]
    assert all(one.equal(other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("outputs", "stride", "added"), [(8, 1, True), (8, 2, False), (6, 1, False)], ids=str
)
def test_the_shortcut_is_there_where_the_shape_stays(outputs, stride, added):
    block, x = (
        InvertedResidual(8, outputs, stride, 6, nn.BatchNorm2d, nn.ReLU6).eval(),
        torch.randn(1, 8, 4, 4),
    )
    for parameter in block.linear_conv.parameters():
        parameter.data.zero_()
    assert block(x).any() == added
    assert not added or block(x).equal(x)


def test_norms_and_activations_are_those_given():
    norm, activation = partial(nn.BatchNorm2d, eps=0.001), partial(nn.LeakyReLU, 0.1)
    for network in (
        MobileNetV2([7], norm, activation),
        DepthwiseSeparable(4, 6, 3, 2, padding=1, norm=norm, activation=activation),
    ):
        norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        assert {m.eps for m in norms} == {0.001}
        last = {m for m in network.modules() if not list(m.children())} - set(norms)
        kinds = {type(m) for m in last}
        assert kinds <= {nn.Conv2d, nn.LeakyReLU, nn.Identity}
        assert nn.LeakyReLU in kinds


def test_depthwise_then_pointwise():
    module = DepthwiseSeparable(4, 6, 3, 2, padding=1, norm=nn.BatchNorm2d, activation=nn.ReLU6).eval()
    assert modules(module) == ["depthwise_conv", "pointwise_conv"]
    assert module.depthwise_conv.conv.weight.shape == (4, 1, 3, 3)
    found = module(torch.rand(1, 4, 5, 7) * 1000)
    assert found.shape == (1, 6, 3, 4)
    assert 0 <= found.min() < found.max() <= 6
