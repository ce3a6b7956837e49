import pytest
import torch
from torch import nn

from samebox.networks.blocks.valid import GroupNorm, ValidCells, zero_beyond

SIZES = torch.tensor([[33, 40], [80, 96], [0, 50]])
STRIDE, MAP = 8, (3, 8, 10, 12)


def drawn():
    torch.manual_seed(0)
    return torch.randn(MAP)


@pytest.mark.parametrize("stride", [1, 8, 32])
def test_valid_cells_are_those_that_a_map_of_the_image_alone_has(stride):
    valid = ValidCells(SIZES)(torch.empty(3, 2, 100, 90), stride)
    assert (valid.shape, valid.dtype) == ((3, 1, 100, 90), torch.bool)
    for image, (height, width) in enumerate(SIZES.tolist()):
        rows, columns = -(-height // stride), -(-width // stride)
        assert valid[image].sum() == rows * min(columns, 90)
        assert valid[image, 0, :rows, :columns].all()


def test_valid_cells_of_several_strides():
    valid = ValidCells(SIZES)
    fine, coarse = valid(torch.empty(3, 2, 10, 12), 8), valid(torch.empty(3, 2, 5, 6), 16)
    assert coarse.equal(fine[:, :, ::2, ::2])
    assert valid(torch.empty(3, 5, 10, 12), 8) is fine


@pytest.fixture
def norm():
    torch.manual_seed(1)
    norm = GroupNorm(4, 8)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def test_without_valid_cells_it_is_the_norm_of_pytorch(norm):
    expected = nn.functional.group_norm(drawn(), 4, norm.weight, norm.bias)
    assert norm(drawn()).equal(expected)


def test_statistics_are_of_the_valid_cells_alone(norm):
    x = drawn()
    found = norm(x, ValidCells(SIZES)(x, STRIDE))
    for image, (rows, columns) in enumerate([(5, 5), (10, 12)]):
        own = x[image : image + 1, :, :rows, :columns]
        expected = nn.functional.group_norm(own, 4, norm.weight, norm.bias)
        torch.testing.assert_close(found[image : image + 1, :, :rows, :columns], expected)
    assert not found[0, :, 5:].any()
    assert not found[0, :, :, 5:].any()
    assert not found[2].any(), "an image without area"


def test_what_lies_beyond_may_be_anything(norm):
    x = drawn()
    valid = ValidCells(SIZES)(x, STRIDE)
    changed = torch.where(valid, x, torch.tensor([torch.nan, torch.inf, 1e30]).repeat(4))
    assert norm(changed, valid).equal(norm(x, valid))


def test_convolutions_take_the_canvas_to_end_with_the_image():
    conv, x = nn.Conv2d(8, 2, 3, padding=1), drawn()
    with torch.no_grad():
        usual = conv(x)
        with zero_beyond(ValidCells(SIZES), [(conv, STRIDE)]):
            found = conv(x)
        torch.testing.assert_close(found[:1, :, :5, :5], conv(x[:1, :, :5, :5]))
        assert not torch.isclose(found[:1, :, :5, :5], usual[:1, :, :5, :5]).all()
        assert conv(x).equal(usual), "only meanwhile"


def test_modules_are_themselves_again_after_a_failure():
    conv, x = nn.Conv2d(8, 2, 3, padding=1), drawn()
    usual = conv(x)
    with pytest.raises(RuntimeError), zero_beyond(ValidCells(SIZES), [(conv, STRIDE)]):
        conv(x[:, :5])
    assert conv(x).equal(usual)
