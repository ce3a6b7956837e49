import pytest
import torch

from samebox.core.errors import SameboxError
from samebox.networks.blocks.fpn import FPN


def pyramid(sizes, channels=(2, 3, 4)):
    torch.manual_seed(0)
    return [torch.randn(1, c, *size) for c, size in zip(channels, sizes, strict=True)]


@pytest.mark.parametrize(
    ("sizes", "beyond"),
    [
        pytest.param([(32, 40), (16, 20), (8, 10)], [(4, 5), (2, 3)], id="even sizes"),
        pytest.param([(25, 17), (13, 9), (7, 5)], [(4, 3), (2, 2)], id="odd sizes"),
        pytest.param([(3, 1), (2, 1), (1, 1)], [(1, 1), (1, 1)], id="smallest sizes"),
    ],
)
@pytest.mark.parametrize("extra_levels", ["pool", "conv_on_input", "conv_on_output"])
def test_level_sizes(sizes, beyond, extra_levels):
    outs = FPN([2, 3, 4], 6, 5, extra_levels)(pyramid(sizes))
    assert [out.shape for out in outs] == [(1, 6, *size) for size in [*sizes, *beyond]]


def test_parameter_names_and_channels_of_the_extra_levels():
    names = [f"{kind}.{i}.conv.{p}" for kind, n in (("lateral_convs", 3), ("fpn_convs", 5)) for i in range(n)
             for p in ("weight", "bias")]  # fmt: skip
    fpn = FPN([2, 3, 4], 6, 5, "conv_on_input")
    assert list(fpn.state_dict()) == names
    assert fpn.state_dict()["fpn_convs.3.conv.weight"].shape == (6, 4, 3, 3)
    assert fpn.state_dict()["fpn_convs.4.conv.weight"].shape == (6, 6, 3, 3)
    on_output = FPN([2, 3, 4], 6, 5, "conv_on_output")
    assert on_output.state_dict()["fpn_convs.3.conv.weight"].shape == (6, 6, 3, 3)
    assert len(FPN([2, 3, 4], 6, 3, "conv_on_output").fpn_convs) == 3


def test_coarse_levels_are_upsampled_to_the_nearest_cell_and_added():
    fpn = FPN([2, 3, 4], 6, 3, "conv_on_output")
    maps = pyramid([(5, 7), (3, 4), (2, 2)])
    with torch.no_grad():
        outs = fpn(maps)
        total = fpn.lateral_convs[2](maps[2])
        torch.testing.assert_close(outs[2], fpn.fpn_convs[2](total))
        for level in (1, 0):
            height, width = maps[level].shape[2:]
            rows = torch.arange(height) * total.shape[2] // height
            columns = torch.arange(width) * total.shape[3] // width
            total = fpn.lateral_convs[level](maps[level]) + total[:, :, rows][:, :, :, columns]
            torch.testing.assert_close(outs[level], fpn.fpn_convs[level](total))


@pytest.mark.parametrize("extra_levels", ["conv_on_input", "conv_on_output"])
def test_source_of_the_extra_levels(extra_levels):
    fpn, maps = FPN([2, 3, 6], 6, 5, extra_levels), pyramid([(9, 9), (5, 5), (3, 3)], (2, 3, 6))
    with torch.no_grad():
        outs = fpn(maps)
        source = maps[-1] if extra_levels == "conv_on_input" else outs[2]
        torch.testing.assert_close(outs[3], fpn.fpn_convs[3](source))
        torch.testing.assert_close(outs[4], fpn.fpn_convs[4](outs[3]))


def test_relu_between_the_extra_levels():
    maps = pyramid([(9, 9), (5, 5), (3, 3)])
    fpn = FPN([2, 3, 4], 6, 5, "conv_on_output", relu_between=True)
    with torch.no_grad():
        outs = fpn(maps)
        torch.testing.assert_close(outs[3], fpn.fpn_convs[3](outs[2]))
        torch.testing.assert_close(outs[4], fpn.fpn_convs[4](outs[3].relu()))
        assert min(outs[2].min(), outs[3].min()) < 0, "no negative values, so a ReLU has no effect"


def test_pooled_levels_contain_every_second_cell():
    fpn, maps = FPN([2, 3, 6], 6, 5, "pool"), pyramid([(9, 9), (5, 7), (3, 4)], (2, 3, 6))
    with torch.no_grad():
        outs = fpn(maps)
    assert len(fpn.fpn_convs) == 3
    assert outs[3].equal(outs[2][:, :, ::2, ::2])
    assert outs[4].equal(outs[3][:, :, ::2, ::2])


def test_an_unknown_extra_levels_is_refused():
    with pytest.raises(SameboxError, match=r"^neck\.extra_levels: 'on_lateral' is none of pool, conv_on_in"):
        FPN([8, 16], 8, 3, "on_lateral")
