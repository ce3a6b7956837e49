import pytest
import torch

from samebox.networks.blocks.vgg import VGG16, L2Norm

# Indices of the convolutions: torchvision's VGG-16, then SSD's two in place of the fully connected layers
CONVS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, 31, 33)


def test_names_and_number_of_parameters():
    """VGG-16 has 14,714,688 parameters before its classifier; SSD adds two convolutions."""
    with torch.device("meta"):
        network = VGG16()
    parts = ("weight", "bias")
    assert list(network.state_dict()) == [f"features.{i}.{part}" for i in CONVS for part in parts]
    added = (512 * 9 + 1) * 1024 + (1024 + 1) * 1024
    assert sum(p.numel() for p in network.parameters()) == 14_714_688 + added


@pytest.mark.parametrize(
    ("side", "sizes"),
    [pytest.param(300, (38, 19), id="SSD300"), pytest.param(64, (8, 4)), pytest.param(65, (9, 5))],
)
def test_halvings_round_up(side, sizes):
    finer, coarser = VGG16(2, 6)(torch.rand(2, 3, side, 40))
    assert finer.shape == (2, 16, sizes[0], 5)
    assert coarser.shape == (2, 6, sizes[1], 3)
    assert (finer >= 0).all(), "the map is taken before its ReLU"
    assert (coarser >= 0).all(), "the map is taken before its ReLU"


def test_the_finer_map_is_that_of_conv4_3():
    network, x = VGG16(2, 6), torch.rand(1, 3, 32, 32)
    expected = torch.relu(network.features[:22](x))
    assert network(x)[0].equal(expected)


def test_l2_norm_normalises_every_cell_and_multiplies_by_its_weights():
    norm, x = L2Norm(5), torch.randn(2, 5, 3, 4)
    norm.weight.data = torch.full((5,), 7.0)
    assert list(norm.state_dict()) == ["weight"]
    torch.testing.assert_close(norm(x).norm(dim=1), torch.full((2, 3, 4), 7.0))
    assert not norm(torch.zeros(1, 5, 2, 2)).any()


def test_l2_norm_has_a_weight_per_channel():
    norm = L2Norm(2)
    norm.weight.data = torch.tensor([1.0, 10.0])
    result = norm(torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1))
    torch.testing.assert_close(result.flatten(), torch.tensor([0.6, 8.0]))
