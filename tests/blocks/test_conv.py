import pytest
import torch

from samebox.blocks.conv import ConvModule


@pytest.mark.parametrize(("kernel", "stride", "size"), [(1, 1, (7, 5)), (3, 1, (7, 5)), (3, 2, (4, 3))])
def test_size_of_the_map(kernel, stride, size):
    assert ConvModule(2, 3, kernel, stride)(torch.rand(1, 2, 7, 5)).shape == (1, 3, *size)


def test_activation():
    x, plain = torch.randn(1, 2, 6, 6), ConvModule(2, 3, 3, activation=False)
    active = ConvModule(2, 3, 3)
    active.load_state_dict(plain.state_dict())
    assert (plain(x) < 0).any()
    assert active(x).equal(plain(x).clamp(min=0))


def test_names():
    assert list(ConvModule(2, 3, 3).state_dict()) == ["conv.weight", "conv.bias"]
