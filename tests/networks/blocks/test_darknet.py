import torch
from torch import nn

from samebox.networks.blocks.darknet import Darknet, ResBlock, conv_bn_leaky

PARTS = (
    "conv.weight",
    *(f"bn.{n}" for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
)


def test_names_and_number_of_parameters():
    """Darknet-53 has 41,609,928 parameters with a classifier of 1000 classes, which has 1,025,000."""
    with torch.device("meta"):
        network = Darknet()
    modules = ["conv1"]
    for stage, repeat in enumerate((1, 2, 8, 8, 4), 1):
        modules.append(f"conv_res_block{stage}.conv")
        modules += [f"conv_res_block{stage}.res{i}.conv{j}" for i in range(repeat) for j in (1, 2)]
    assert list(network.state_dict()) == [f"{module}.{part}" for module in modules for part in PARTS]
    assert sum(p.numel() for p in network.parameters()) == 41_609_928 - 1_025_000


def test_maps_of_the_last_three_stages():
    maps = Darknet(4, (1, 1, 2, 1, 1)).eval()(torch.rand(2, 3, 64, 99))
    # halvings round up
    assert [x.shape for x in maps] == [(2, 32, 8, 13), (2, 64, 4, 7), (2, 128, 2, 4)]


def test_a_block_adds_its_convolutions_to_the_input():
    block, x = ResBlock(6).eval(), torch.randn(1, 6, 5, 5)
    for parameter in block.conv2.parameters():
        parameter.data.zero_()
    assert block(x).equal(x)
    assert block.conv1.conv.out_channels == 3


def test_leaky_relu_has_slope_0_1():
    module = conv_bn_leaky(1, 1, 1).eval()
    module.conv.weight.data.fill_(1)
    assert isinstance(module.bn, nn.BatchNorm2d)
    result = module(torch.tensor([-10.0, 10.0]).reshape(1, 1, 1, 2))
    torch.testing.assert_close(result.flatten(), torch.tensor([-1.0, 10.0]), rtol=1e-4, atol=0)
