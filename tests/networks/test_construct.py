import re

import pytest
import torch
from torch import nn

from samebox.core.errors import SameboxError
from samebox.networks.blocks.anchors import Anchors
from samebox.networks.blocks.resnet import ResNet
from samebox.networks.blocks.roi_align import RoIAlign
from samebox.networks.construct import build

BLOCKS = "samebox.networks.blocks"
CONV = {"_target_": f"{BLOCKS}.conv.ConvModule", "inputs": 2, "outputs": 4, "kernel": 3}
RESNET = {"_target_": f"{BLOCKS}.resnet.ResNet", "depth": 18, "base_channels": 2}
NOT_A_MODULE = r"detector\.network: is not a module; set _target_ to the class of the network"
ROI_ALIGN = {"_target_": f"{BLOCKS}.roi_align.RoIAlign", "_args_": [7, [4, 8]]}


def sequential(*modules):
    return {"_target_": "torch.nn.Sequential", "_args_": list(modules)}


def test_keys_are_keyword_arguments():
    resnet = build(RESNET | {"out_stages": [1, 3]})
    assert isinstance(resnet, ResNet)
    assert resnet.out_stages == (1, 3)
    assert resnet.conv1.out_channels == 2


def test_args_are_positional_and_may_be_combined_with_keys():
    roi_align = build(ROI_ALIGN | {"samples": 2})
    assert isinstance(roi_align, RoIAlign)
    assert (roi_align.size, roi_align.strides, roi_align.samples) == (7, (4, 8), 2)


def test_nested_targets_are_built_before_what_takes_them():
    octaves = {"_target_": f"{BLOCKS}.anchors.octave_scales", "base": 4, "count": 2}
    anchors = {"_target_": f"{BLOCKS}.anchors.Anchors", "strides": [8], "ratios": [1.0], "scales": octaves}
    norm = {"_target_": "torch.nn.GroupNorm", "num_groups": 2, "num_channels": 4}
    network = build(sequential(anchors, CONV | {"norm": norm}))
    assert isinstance(network[0], Anchors)
    assert len(network[0].sides) == 2
    assert isinstance(network[1].gn, nn.GroupNorm)


def test_a_mapping_without_a_target_stays_a_dict():
    modules = {"a": {"_target_": "torch.nn.ReLU"}, "b": {"_target_": "torch.nn.Identity"}}
    network = build({"_target_": "torch.nn.ModuleDict", "modules": modules})
    assert [type(module) for module in network.values()] == [nn.ReLU, nn.Identity]


def test_a_partial_is_called_by_the_constructor_that_takes_it():
    activation = {"_target_": "torch.nn.LeakyReLU", "_partial_": True, "negative_slope": 0.1}
    module = build(CONV | {"activation": activation})
    assert isinstance(module.activation, nn.LeakyReLU)
    assert module.activation.negative_slope == 0.1


def test_a_partial_keeps_its_positional_arguments():
    activation = {"_target_": "torch.nn.Softplus", "_partial_": True, "_args_": [2.0], "threshold": 5}
    module = build(CONV | {"activation": activation})
    assert (module.activation.beta, module.activation.threshold) == (2.0, 5)


def test_the_description_is_left_as_it_was():
    description = sequential(CONV, ROI_ALIGN)
    copied = sequential(dict(CONV), dict(ROI_ALIGN))
    build(description)
    assert description == copied


@pytest.mark.parametrize(
    ("network", "message"),
    [
        pytest.param(
            sequential({"_target_": f"{BLOCKS}.resnet.ResNext"}),
            r"detector\.network\._args_\[0\]\._target_: 'samebox\.networks\.blocks\.resnet\.ResNext' is no "
            r"part of a network; use a name of samebox\.networks\.\* or torch\.nn\.\*",
            id="unknown class",
        ),
        pytest.param(
            {"_target_": "samebox.networks.no_module.Net"},
            r"detector\.network\._target_: 'samebox\.networks\.no_module\.Net' is no part of a network; .*",
            id="unknown module",
        ),
        pytest.param(
            {"_target_": "os.system", "_args_": ["true"]},
            r"detector\.network\._target_: 'os\.system' is no part of a network; .*",
            id="another package",
        ),
        pytest.param(
            {"_target_": "samebox.networks_of_mine.Net"},
            r"detector\.network\._target_: 'samebox\.networks_of_mine\.Net' is no part of a network; .*",
            id="package of a similar name",
        ),
        pytest.param(
            {"_target_": f"{BLOCKS}.resnet.DEPTHS"},
            r"detector\.network\._target_: 'samebox\.networks\.blocks\.resnet\.DEPTHS' is no part .*",
            id="not callable",
        ),
        pytest.param(
            {"_target_": None},
            r"detector\.network\._target_: None is no part of a network; .*",
            id="no name",
        ),
        pytest.param(
            CONV | {"norm": RESNET | {"width": 64}},
            r"detector\.network\.norm: .*unexpected keyword argument 'width'; "
            r"see samebox\.networks\.blocks\.resnet\.ResNet",
            id="wrong keyword",
        ),
        pytest.param(
            sequential(RESNET | {"depth": 20}),
            r"detector\.network\._args_\[0\]: ResNet has no depth 20; .*",
            id="value refused by samebox",
        ),
        pytest.param(
            {
                "_target_": "torch.nn.Conv2d",
                "in_channels": 3,
                "out_channels": 4,
                "kernel_size": 3,
                "groups": 2,
            },
            r"detector\.network: in_channels must be divisible by groups; see torch\.nn\.Conv2d",
            id="value refused by PyTorch",
        ),
        pytest.param(
            CONV | {"outputs": "four"},
            r"detector\.network: .*; see samebox\.networks\.blocks\.conv\.ConvModule",
            id="value of another type",
        ),
        pytest.param(
            {"_target_": f"{BLOCKS}.roi_align.RoIAlign", "_args_": 7},
            r"detector\.network: .*; see samebox\.networks\.blocks\.roi_align\.RoIAlign",
            id="positional arguments that are no list",
        ),
        pytest.param(
            CONV | {"activation": {"_target_": "torch.nn.ReLU", "_partial_": True, "slope": 1}},
            r"detector\.network: .*unexpected keyword argument 'slope'; "
            r"see samebox\.networks\.blocks\.conv\.ConvModule",
            id="wrong keyword of a partial",
        ),
        pytest.param(
            {}, r"detector\.network: is not a module; set _target_ to the class of the network", id="empty"
        ),
        pytest.param(
            {"_target_": f"{BLOCKS}.anchors.octave_scales", "base": 4, "count": 3},
            NOT_A_MODULE,
            id="function that returns no module",
        ),
    ],
)
def test_an_error_is_one_line_that_names_the_key(network, message):
    with pytest.raises(SameboxError) as error, torch.device("meta"):
        build(network)
    assert re.fullmatch(message, str(error.value)), str(error.value)  # "." matches no line break
