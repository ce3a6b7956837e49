import pytest
import torch
from torch import nn

from samebox.networks.blocks.valid import GroupNorm, ValidCells, zero_padding_cells

SIZES = torch.tensor([[33, 40], [80, 96], [0, 50]])
STRIDE, MAP = 8, (3, 8, 10, 12)


def random_map():
    torch.manual_seed(0)
    return torch.randn(MAP)


@pytest.mark.parametrize("stride", [1, 8, 32])
def test_valid_cells_are_those_of_a_map_of_the_image_alone(stride):
    valid = ValidCells(SIZES)(torch.empty(3, 2, 100, 90), stride)
    assert (valid.shape, valid.dtype) == ((3, 1, 100, 90), torch.bool)
    for image, (height, width) in enumerate(SIZES.tolist()):
        rows, columns = -(-height // stride), -(-width // stride)
        assert valid[image].sum() == rows * min(columns, 90)
        assert valid[image, 0, :rows, :columns].all()


def test_masks_of_several_strides_are_cached():
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


def test_without_a_mask_the_norm_is_that_of_pytorch(norm):
    expected = nn.functional.group_norm(random_map(), 4, norm.weight, norm.bias)
    assert norm(random_map()).equal(expected)


def test_statistics_are_over_the_valid_cells_only(norm):
    x = random_map()
    result = norm(x, ValidCells(SIZES)(x, STRIDE))
    for image, (rows, columns) in enumerate([(5, 5), (10, 12)]):
        image_only = x[image : image + 1, :, :rows, :columns]
        expected = nn.functional.group_norm(image_only, 4, norm.weight, norm.bias)
        torch.testing.assert_close(result[image : image + 1, :, :rows, :columns], expected)
    assert not result[0, :, 5:].any()
    assert not result[0, :, :, 5:].any()
    assert not result[2].any(), "an image without area"


def test_values_of_padding_cells_do_not_matter(norm):
    x = random_map()
    valid = ValidCells(SIZES)(x, STRIDE)
    changed = torch.where(valid, x, torch.tensor([torch.nan, torch.inf, 1e30]).repeat(4))
    assert norm(changed, valid).equal(norm(x, valid))


def test_convolutions_read_zeros_in_padding_cells():
    conv, x = nn.Conv2d(8, 2, 3, padding=1), random_map()
    with torch.no_grad():
        unmasked = conv(x)
        with zero_padding_cells(ValidCells(SIZES), [(conv, STRIDE)]):
            masked = conv(x)
        torch.testing.assert_close(masked[:1, :, :5, :5], conv(x[:1, :, :5, :5]))
        assert not torch.isclose(masked[:1, :, :5, :5], unmasked[:1, :, :5, :5]).all()
        assert conv(x).equal(unmasked), "the hooks are still active"


def test_hooks_are_removed_after_an_error():
    conv, x = nn.Conv2d(8, 2, 3, padding=1), random_map()
    unmasked = conv(x)
    with pytest.raises(RuntimeError), zero_padding_cells(ValidCells(SIZES), [(conv, STRIDE)]):
        conv(x[:, :5])
    assert conv(x).equal(unmasked)
