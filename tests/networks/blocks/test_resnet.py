import pytest
import torch

from samebox.core.errors import SameboxError
from samebox.networks.blocks.resnet import Bottleneck, ResNet

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def names(convs, repeats, projected):
    """What torchvision calls the parameters of a ResNet without its classifier."""
    found = {"conv1.weight", *(f"bn1.{part}" for part in NORM)}
    for stage, repeat in enumerate(repeats, 1):
        for block in range(repeat):
            prefix = f"layer{stage}.{block}"
            found |= {f"{prefix}.conv{i}.weight" for i in range(1, convs + 1)}
            found |= {f"{prefix}.bn{i}.{part}" for i in range(1, convs + 1) for part in NORM}
        if stage in projected:
            found |= {f"layer{stage}.0.downsample.0.weight"}
            found |= {f"layer{stage}.0.downsample.1.{part}" for part in NORM}
    return found


# Parameters as torchvision counts them, less those of its classifier (1000 classes, with bias)
@pytest.mark.parametrize(
    ("depth", "convs", "repeats", "projected", "parameters"),
    [
        (18, 2, (2, 2, 2, 2), (2, 3, 4), 11_689_512 - 513_000),
        (34, 2, (3, 4, 6, 3), (2, 3, 4), 21_797_672 - 513_000),
        (50, 3, (3, 4, 6, 3), (1, 2, 3, 4), 25_557_032 - 2_049_000),
        (101, 3, (3, 4, 23, 3), (1, 2, 3, 4), 44_549_160 - 2_049_000),
    ],
)
def test_depths(depth, convs, repeats, projected, parameters):
    with torch.device("meta"):
        network = ResNet(depth)
    assert set(network.state_dict()) == names(convs, repeats, projected)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("depth", "channels"), [(18, [8, 16, 32, 64]), (50, [32, 64, 128, 256])], ids=["basic", "bottleneck"]
)
@pytest.mark.parametrize("style", ["pytorch", "caffe"])
def test_maps_of_the_stages(depth, channels, style):
    network = ResNet(depth, style, base_channels=8).eval()
    maps = network(torch.rand(2, 3, 70, 99))
    # each halving rounds up: 35x50, 18x25 after the pooling
    sizes = [(18, 25), (9, 13), (5, 7), (3, 4)]
    assert [x.shape for x in maps] == [(2, c, *size) for c, size in zip(channels, sizes, strict=True)]
    some = ResNet(depth, style, base_channels=8, out_stages=(1, 3)).eval()
    some.load_state_dict(network.state_dict())
    chosen = some(torch.zeros(1, 3, 70, 99))
    assert [x.shape[1] for x in chosen] == [channels[1], channels[3]]


@pytest.mark.parametrize(("style", "strides"), [("pytorch", (1, 2)), ("caffe", (2, 1))])
def test_where_the_stride_of_a_bottleneck_is(style, strides):
    for name, block in ResNet(50, style, base_channels=8).named_modules():
        if isinstance(block, Bottleneck):
            first = name in ("layer2.0", "layer3.0", "layer4.0")
            found = (block.conv1.stride[0], block.conv2.stride[0])
            assert found == (strides if first else (1, 1)), name
            assert block.conv3.stride == (1, 1)


def test_a_basic_block_has_its_stride_in_the_first_convolution_whatever_the_style():
    block = ResNet(18, "caffe", base_channels=8).get_submodule("layer2.0")
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))


@pytest.mark.parametrize(
    ("wrong", "told"), [({"depth": 20}, "take one of 18"), ({"style": "tf"}, "take pytorch")]
)
def test_what_it_has_no_form_of_is_refused(wrong, told):
    with pytest.raises(SameboxError, match=told):
        ResNet(**({"depth": 18} | wrong))
