from functools import partial

import pytest
import torch
from torch import nn

from samebox.networks.blocks.conv import ConvModule, conv_tower
from samebox.networks.blocks.valid import GroupNorm


@pytest.mark.parametrize(("kernel", "stride", "size"), [(1, 1, (7, 5)), (3, 1, (7, 5)), (3, 2, (4, 3))])
def test_default_padding_keeps_the_size(kernel, stride, size):
    assert ConvModule(2, 3, kernel, stride)(torch.rand(1, 2, 7, 5)).shape == (1, 3, *size)


def test_activation_is_applied():
    x, plain = torch.randn(1, 2, 6, 6), ConvModule(2, 3, 3, activation=nn.Identity)
    active = ConvModule(2, 3, 3)
    active.load_state_dict(plain.state_dict())
    assert (plain(x) < 0).any()
    assert active(x).equal(plain(x).clamp(min=0))


def test_norm_precedes_the_activation():
    x, norm = torch.randn(2, 2, 6, 6), nn.GroupNorm(2, 4)
    module = ConvModule(2, 4, 3, norm=norm, activation=partial(nn.LeakyReLU, 0.1))
    expected = nn.functional.leaky_relu(norm(module.conv(x)), 0.1)
    assert module(x).equal(expected)


def test_further_inputs_are_passed_to_the_norm():
    module, x = ConvModule(2, 4, 3, norm=GroupNorm(2, 4)), torch.randn(1, 2, 6, 6)
    valid = torch.arange(6).expand(1, 1, 6, 6) < 4
    result = module(x, valid)
    assert result.equal(module.gn(module.conv(x), valid).relu())
    assert not result[..., 4:].any()


def test_dilation_and_groups_keep_the_size():
    assert ConvModule(4, 8, 3, dilation=6, groups=4)(torch.rand(1, 4, 9, 7)).shape == (1, 8, 9, 7)
    assert ConvModule(4, 8, 3, padding=0)(torch.rand(1, 4, 9, 7)).shape == (1, 8, 7, 5)


@pytest.mark.parametrize(
    ("norm", "names"),
    [
        (None, ["conv.weight", "conv.bias"]),
        (nn.GroupNorm(1, 3), ["conv.weight", "gn.weight", "gn.bias"]),
        (
            nn.BatchNorm2d(3),
            ["conv.weight", *[f"bn.{n}" for n in ("weight", "bias", "running_mean", "running_var")]],
        ),
    ],
)
def test_parameter_names(norm, names):
    state = [name for name in ConvModule(2, 3, 3, norm=norm).state_dict() if "num_batches" not in name]
    assert state == names


def test_a_tower_is_a_sequence_of_3x3_convolutions():
    tower = conv_tower(2, 4, 3)
    assert [tuple(module.conv.weight.shape) for module in tower] == [(4, 2, 3, 3), (4, 4, 3, 3), (4, 4, 3, 3)]
    assert all(module.bn is None for module in tower)


def test_every_convolution_of_a_tower_has_its_own_norm():
    tower = conv_tower(2, 4, 2, partial(nn.GroupNorm, 2))
    assert all(module.gn.num_channels == 4 and module.conv.bias is None for module in tower)
    assert tower[0].gn is not tower[1].gn
