"""MMDetection's necks."""

from typing import Any

from samebox.adopt.mmdetection import backbones
from samebox.adopt.mmdetection.layers import (
    expect_batch_norm,
    expect_leaky_relu,
    expect_plain_convolutions,
    ssd_convolutions,
)
from samebox.adopt.section import Section


def backbone_with_fpn(model: Section) -> dict[str, Any]:
    """A backbone, and FPN on the stages of it that FPN uses."""
    backbone = backbones.read_backbone(model, backbones.FOR_FPN)
    neck, start = model.read("neck", fpn)
    return {"backbone": backbone | {"out_stages": backbone["out_stages"][start:]}, "neck": neck}


def fpn(neck: Section) -> tuple[dict[str, Any], int]:
    """FPN, and the index of the first of the backbone's outputs that it uses."""
    neck.choice("FPN")
    channels, start = neck.integers("in_channels"), neck.integer("start_level", 0)
    neck.expect("end_level", -1, len(channels) - 1)
    on_input = neck.flag("extra_convs_on_inputs", True)
    extra = neck.take("add_extra_convs", False)
    if extra is True:
        extra = "on_input" if on_input else "on_output"
    if extra not in (False, "on_input", "on_output"):
        neck.reject("add_extra_convs", extra)
    expect_plain_convolutions(neck)
    neck.expect("act_cfg", None)
    neck.expect("upsample_cfg", {"mode": "nearest"})
    neck.ignore("no_norm_on_lateral")
    network = {
        "_target_": "samebox.networks.blocks.fpn.FPN",
        "in_channels": channels[start:],
        "out_channels": neck.integer("out_channels"),
        "num_outs": neck.integer("num_outs"),
        "extra_levels": f"conv_{extra}" if extra else "pool",
        "relu_between": neck.flag("relu_before_extra_convs", False) and extra is not False,
    }
    return network, start


def ssd_neck(neck: Section) -> dict[str, Any]:
    """SSDNeck."""
    neck.choice("SSDNeck")
    in_channels, out_channels = neck.integers("in_channels"), neck.integers("out_channels")
    if out_channels[: len(in_channels)] != in_channels:
        neck.reject("out_channels", out_channels)
    neck.expect("last_kernel_size", 3)
    scale = neck.take("l2_norm_scale", 20)  # the initial value of a parameter
    channels = in_channels[0] if in_channels else 0
    l2_norm = {"_target_": "samebox.networks.blocks.vgg.L2Norm", "channels": channels}
    return {
        "_target_": "samebox.networks.nets.ssd.SSDNeck",
        "in_channels": in_channels,
        "extra_channels": out_channels[len(in_channels) :],
        "strides": neck.integers("level_strides"),
        "paddings": neck.integers("level_paddings"),
        "l2_norm": None if scale is None else l2_norm,
        **ssd_convolutions(neck),
    }


def yolov3_neck(neck: Section) -> dict[str, Any]:
    """YOLOV3Neck."""
    neck.choice("YOLOV3Neck")
    neck.expect("conv_cfg", None)
    expect_batch_norm(neck)
    expect_leaky_relu(neck)
    in_channels = neck.integers("in_channels")
    neck.require("num_scales", len(in_channels))
    return {
        "_target_": "samebox.networks.nets.yolov3.YOLOv3Neck",
        "in_channels": in_channels,
        "out_channels": neck.integers("out_channels"),
    }


def channel_mapper(model: Section, channels: int) -> int:
    """The input channels of DETR's neck, a ChannelMapper that projects one feature map to `channels`."""
    with model.section("neck") as neck:
        neck.choice("ChannelMapper")
        neck.require("kernel_size", 1)
        for name in ("norm_cfg", "act_cfg", "conv_cfg"):
            neck.expect(name, None)
        neck.expect("num_outs", 1, None)
        neck.expect("out_channels", channels, default=256)
        in_channels = neck.integers("in_channels")
        if len(in_channels) != 1:
            neck.reject("in_channels", in_channels)
        return in_channels[0] if in_channels else 0
