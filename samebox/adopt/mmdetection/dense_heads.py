"""MMDetection's heads that predict at every cell of a feature map."""

from typing import Any

from samebox.adopt.mmdetection.anchors import anchors, octave_anchors, ssd_anchors, yolo_anchors
from samebox.adopt.mmdetection.head_settings import (
    delta_stds,
    expect_scores,
    expect_unit_stds,
    num_classes,
    tower_settings,
)
from samebox.adopt.mmdetection.layers import (
    expect_batch_norm,
    expect_leaky_relu,
    expect_plain_convolutions,
    group_norm_groups,
    ssd_convolutions,
)
from samebox.adopt.mmdetection.test_settings import proposal_settings
from samebox.adopt.section import Section


def retina_head(head: Section) -> dict[str, Any]:
    """RetinaHead."""
    head.choice("RetinaHead")
    expect_scores(head, sigmoid=True)
    expect_plain_convolutions(head)
    expect_unit_stds(head)
    return {
        "_target_": "samebox.networks.nets.retinanet.RetinaHead",
        **tower_settings(head),
        "anchors": octave_anchors(head),
    }


def fsaf_head(head: Section) -> dict[str, Any]:
    """FSAFHead."""
    head.choice("FSAFHead")
    expect_scores(head, sigmoid=True)
    expect_plain_convolutions(head)
    head.expect("score_threshold", None)
    network = {
        "_target_": "samebox.networks.nets.fsaf.FSAFHead",
        **tower_settings(head),
        "anchors": octave_anchors(head),
    }
    with head.section("bbox_coder") as coder:
        coder.choice("TBLRBBoxCoder")
        coder.expect("clip_border", True)
        return network | {"normalizer": float(coder.number("normalizer", 4.0))}


def fcos_head(head: Section) -> dict[str, Any]:
    """FCOSHead with GroupNorm."""
    head.choice("FCOSHead")
    expect_scores(head, sigmoid=True)
    groups = group_norm_groups(head)
    head.expect("conv_cfg", None)
    head.expect("conv_bias", "auto", False)
    for name in ("norm_on_bbox", "centerness_on_reg", "dcn_on_last_conv"):
        head.expect(name, False)
    head.expect("bbox_coder", None, {"type": "DistancePointBBoxCoder"})
    head.ignore("regress_ranges", "center_sampling", "center_sample_radius")
    strides = head.integers("strides", (4, 8, 16, 32, 64))
    return {
        "_target_": "samebox.networks.nets.fcos.FCOSHead",
        **tower_settings(head),
        "norm_groups": groups,
        "points": {"_target_": "samebox.networks.blocks.anchors.Points", "strides": strides},
    }


def ssd_head(head: Section) -> dict[str, Any]:
    """SSDHead."""
    head.choice("SSDHead")
    head.expect("stacked_convs", 0)
    head.ignore("feat_channels")
    return {
        "_target_": "samebox.networks.nets.ssd.SSDHead",
        "in_channels": head.integers("in_channels"),
        "num_classes": num_classes(head),
        "anchors": ssd_anchors(head),
        "stds": delta_stds(head, (1.0, 1.0, 1.0, 1.0)),
        **ssd_convolutions(head),
    }


def yolov3_head(head: Section) -> dict[str, Any]:
    """YOLOV3Head."""
    head.choice("YOLOV3Head")
    head.expect("conv_cfg", None)
    expect_batch_norm(head)
    expect_leaky_relu(head)
    head.expect("bbox_coder", {"type": "YOLOBBoxCoder"})
    head.ignore("one_hot_smoother")
    anchors = yolo_anchors(head)
    head.expect("featmap_strides", anchors["strides"], default=[32, 16, 8])
    return {
        "_target_": "samebox.networks.nets.yolov3.YOLOv3Head",
        "in_channels": head.integers("in_channels"),
        "out_channels": head.integers("out_channels", (1024, 512, 256)),
        "num_classes": num_classes(head),
        "anchors": anchors,
    }


def rpn_head(head: Section, test: Section) -> dict[str, Any]:
    """RPNHead, with the settings of the proposals in `test`."""
    head.choice("RPNHead")
    expect_scores(head, sigmoid=True)
    head.expect("num_convs", 1)
    head.expect("num_classes", 1)
    expect_unit_stds(head)
    return {
        "_target_": "samebox.networks.nets.rpn.RPNHead",
        "in_channels": head.integer("in_channels"),
        "channels": head.integer("feat_channels", 256),
        "anchors": anchors(head),
        **proposal_settings(test),
    }


def solov2_head(head: Section) -> dict[str, Any]:
    """SOLOV2Head."""
    head.choice("SOLOV2Head")
    expect_scores(head, sigmoid=True)
    groups = group_norm_groups(head)
    head.expect("cls_down_index", 0)
    head.expect("dynamic_conv_size", 1)
    head.expect("conv_cfg", None)
    head.expect("dcn_cfg", None)
    head.ignore("dcn_apply_to_all_conv", "scale_ranges", "pos_scale")
    towers = tower_settings(head)
    return {
        "_target_": "samebox.networks.nets.solov2.SOLOv2Head",
        **towers,
        "grids": head.integers("num_grids"),
        "norm_groups": groups,
        "mask_feature_head": mask_feature_head(head, towers["in_channels"]),
    }


def mask_feature_head(head: Section, in_channels: int) -> dict[str, Any]:
    """SOLOv2's MaskFeatModule."""
    with head.section("mask_feature_head") as features:
        features.expect("start_level", 0)
        features.expect("mask_stride", 4)
        features.expect("conv_cfg", None)
        features.expect("act_cfg", {"type": "ReLU"})
        return {
            "_target_": "samebox.networks.nets.solov2.MaskFeatureHead",
            "in_channels": in_channels,
            "channels": features.integer("feat_channels"),
            "out_channels": features.integer("out_channels"),
            "levels": features.integer("end_level") + 1,
            "norm_groups": group_norm_groups(features),
        }


def corner_head(head: Section, stacks: int) -> dict[str, Any]:
    """CornerHead, with one output for each of the backbone's `stacks`."""
    head.choice("CornerHead")
    head.expect("num_feat_levels", stacks, default=2)
    head.expect("corner_emb_channels", 1)
    return {
        "_target_": "samebox.networks.nets.cornernet.CornerHead",
        "channels": head.integer("in_channels"),
        "branch_channels": 128,
        "num_classes": num_classes(head),
    }
