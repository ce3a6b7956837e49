"""MMDetection's backbones.

A new backbone needs a reader here, and an entry in the table of each kind of detector that may have it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from samebox.adopt.mmdetection.layers import (
    activation_factory,
    batch_norm_eps,
    batch_norm_factory,
    expect_batch_norm,
    expect_leaky_relu,
)
from samebox.adopt.section import Section
from samebox.networks.blocks.resnet import DEPTHS

Reader = Callable[[Section], dict[str, Any]]


def read_backbone(model: Section, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """The backbone of `model`, whose type must be a key of `readers`."""
    with model.section("backbone") as section:
        return readers[section.choice(*readers)](section)


def resnet(backbone: Section) -> dict[str, Any]:
    """ResNet with BatchNorm."""
    depth, base_channels = backbone.integer("depth"), backbone.integer("base_channels", 64)
    if depth and depth not in DEPTHS:
        backbone.reject("depth", depth)
    expect_batch_norm(backbone)
    backbone.expect("stem_channels", None, base_channels)
    backbone.expect("in_channels", 3)
    backbone.expect("num_stages", 4)
    backbone.expect("strides", (1, 2, 2, 2))
    backbone.expect("dilations", (1, 1, 1, 1))
    for name in ("deep_stem", "avg_down"):
        backbone.expect(name, False)
    backbone.expect("conv_cfg", None)
    backbone.expect("dcn", None)
    backbone.ignore("stage_with_dcn", "contract_dilation")
    return {
        "_target_": "samebox.networks.blocks.resnet.ResNet",
        "depth": depth,
        "style": backbone.choice("pytorch", "caffe", key="style", default="pytorch"),
        "base_channels": base_channels,
        "out_stages": backbone.integers("out_indices", (0, 1, 2, 3)),
    }


def vgg(backbone: Section) -> dict[str, Any]:
    """SSD's VGG-16."""
    backbone.require("depth", 16)
    backbone.expect("with_last_pool", False)
    backbone.expect("ceil_mode", True)
    backbone.expect("out_indices", (3, 4))
    backbone.require("out_feature_indices", (22, 34))
    backbone.ignore("input_size")
    return {"_target_": "samebox.networks.blocks.vgg.VGG16"}


def mobilenet(backbone: Section) -> dict[str, Any]:
    """MobileNetV2."""
    backbone.expect("widen_factor", 1.0)
    backbone.expect("conv_cfg", None)
    network: dict[str, Any] = {
        "_target_": "samebox.networks.blocks.mobilenet.MobileNetV2",
        "out_stages": backbone.integers("out_indices", (1, 2, 4, 7)),
    }
    if "norm_cfg" in backbone:
        network["norm"] = batch_norm_factory(batch_norm_eps(backbone))
    return network | {"activation": activation_factory(backbone, "ReLU6")}


def darknet(backbone: Section) -> dict[str, Any]:
    """Darknet-53."""
    backbone.expect("depth", 53)
    backbone.expect("out_indices", (3, 4, 5))
    backbone.expect("conv_cfg", None)
    expect_batch_norm(backbone)
    expect_leaky_relu(backbone)
    return {"_target_": "samebox.networks.blocks.darknet.Darknet"}


def hourglass(backbone: Section) -> dict[str, Any]:
    """HourglassNet."""
    expect_batch_norm(backbone)
    channels = backbone.integers("stage_channels", (256, 256, 384, 384, 384, 512))
    backbone.expect("downsample_times", len(channels) - 1, default=5)
    if len(channels) < 2 or backbone.integer("feat_channel", 256) != channels[0]:
        backbone.reject("feat_channel")
    return {
        "_target_": "samebox.networks.blocks.hourglass.HourglassNet",
        "stacks": backbone.integer("num_stacks", 2),
        "channels": channels,
        "counts": backbone.integers("stage_blocks", (2, 2, 2, 2, 2, 4)),
    }


# The types of backbones that each kind of detector may have
FOR_FPN: dict[str, Reader] = {"ResNet": resnet}
FOR_DETR: dict[str, Reader] = {"ResNet": resnet}
FOR_SSD: dict[str, Reader] = {"SSDVGG": vgg, "MobileNetV2": mobilenet}
FOR_YOLOV3: dict[str, Reader] = {"Darknet": darknet, "MobileNetV2": mobilenet}
FOR_CORNERNET: dict[str, Reader] = {"HourglassNet": hourglass}
