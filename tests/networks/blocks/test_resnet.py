import pytest
import torch

from samebox.core.errors import SameboxError
from samebox.networks.blocks.resnet import Bottleneck, ResNet

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def torchvision_names(convs, repeats, projected):
    """torchvision's parameter names of a ResNet without its classifier."""
    names = {"conv1.weight", *(f"bn1.{part}" for part in NORM)}
    for stage, repeat in enumerate(repeats, 1):
        for block in range(repeat):
            prefix = f"layer{stage}.{block}"
            names |= {f"{prefix}.conv{i}.weight" for i in range(1, convs + 1)}
            names |= {f"{prefix}.bn{i}.{part}" for i in range(1, convs + 1) for part in NORM}
        if stage in projected:
            names |= {f"layer{stage}.0.downsample.0.weight"}
            names |= {f"layer{stage}.0.downsample.1.{part}" for part in NORM}
    return names


# Number of parameters in torchvision, less those of its classifier (1000 classes, with bias)
@pytest.mark.parametrize(
    ("depth", "convs", "repeats", "projected", "parameters"),
    [
        (18, 2, (2, 2, 2, 2), (2, 3, 4), 11_689_512 - 513_000),
        (34, 2, (3, 4, 6, 3), (2, 3, 4), 21_797_672 - 513_000),
        (50, 3, (3, 4, 6, 3), (1, 2, 3, 4), 25_557_032 - 2_049_000),
        (101, 3, (3, 4, 23, 3), (1, 2, 3, 4), 44_549_160 - 2_049_000),
    ],
)
def test_names_and_number_of_parameters(depth, convs, repeats, projected, parameters):
    with torch.device("meta"):
        network = ResNet(depth)
    assert set(network.state_dict()) == torchvision_names(convs, repeats, projected)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("depth", "channels"), [(18, [8, 16, 32, 64]), (50, [32, 64, 128, 256])], ids=["basic", "bottleneck"]
)
@pytest.mark.parametrize("style", ["pytorch", "caffe"])
def test_channels_and_sizes_of_the_stages(depth, channels, style):
    network = ResNet(depth, style, base_channels=8).eval()
    maps = network(torch.rand(2, 3, 70, 99))
    # halvings round up: 35x50, then 18x25 after the pooling
    sizes = [(18, 25), (9, 13), (5, 7), (3, 4)]
    assert [x.shape for x in maps] == [(2, c, *size) for c, size in zip(channels, sizes, strict=True)]
    subset = ResNet(depth, style, base_channels=8, out_stages=(1, 3)).eval()
    subset.load_state_dict(network.state_dict())
    maps = subset(torch.zeros(1, 3, 70, 99))
    assert [x.shape[1] for x in maps] == [channels[1], channels[3]]


@pytest.mark.parametrize(("style", "strides"), [("pytorch", (1, 2)), ("caffe", (2, 1))])
def test_convolution_with_the_stride_of_a_bottleneck(style, strides):
    for name, block in ResNet(50, style, base_channels=8).named_modules():
        if isinstance(block, Bottleneck):
            first = name in ("layer2.0", "layer3.0", "layer4.0")
            block_strides = (block.conv1.stride[0], block.conv2.stride[0])
            assert block_strides == (strides if first else (1, 1)), name
            assert block.conv3.stride == (1, 1)


def test_a_basic_block_has_its_stride_in_the_first_convolution_in_any_style():
    block = ResNet(18, "caffe", base_channels=8).get_submodule("layer2.0")
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))


@pytest.mark.parametrize(
    ("options", "message"), [({"depth": 20}, "use one of 18"), ({"style": "tf"}, "use pytorch or caffe")]
)
def test_an_unknown_depth_or_style_is_refused(options, message):
    with pytest.raises(SameboxError, match=message):
        ResNet(**({"depth": 18} | options))
