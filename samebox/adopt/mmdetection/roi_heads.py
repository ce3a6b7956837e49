"""MMDetection's heads on regions of interest: boxes, masks, and PointRend's points."""

from typing import Any

from samebox.adopt.mmdetection.head_settings import delta_stds, expect_scores, num_classes
from samebox.adopt.mmdetection.layers import expect_plain_convolutions
from samebox.adopt.section import Section


def roi_align(roi_head: Section, key: str) -> dict[str, Any]:
    """The RoIAlign of the extractor under `key`."""
    with roi_head.section(key) as extractor:
        extractor.choice("SingleRoIExtractor")
        extractor.expect("finest_scale", 56)
        extractor.ignore("out_channels")
        with extractor.section("roi_layer") as layer:
            layer.choice("RoIAlign")
            layer.expect("sample_num" if "sample_num" in layer else "sampling_ratio", 0)
            layer.expect("pool_mode", "avg")
            layer.expect("aligned", True)
            size = layer.integer("out_size" if "out_size" in layer else "output_size")
        strides = extractor.integers("featmap_strides")
    return {"_target_": "samebox.networks.blocks.roi_align.RoIAlign", "_args_": [size, strides]}


def box_head(head: Section, roi_align: dict[str, Any], class_agnostic: bool) -> dict[str, Any]:
    """Shared2FCBBoxHead."""
    head.choice("Shared2FCBBoxHead")
    expect_scores(head, "CrossEntropyLoss", sigmoid=False)
    expect_plain_convolutions(head)
    size = roi_align["_args_"][0]
    head.expect("roi_feat_size", size, [size, size], default=7)
    head.expect("reg_class_agnostic", class_agnostic)
    head.expect("with_avg_pool", False)
    for name in ("reg_predictor_cfg", "cls_predictor_cfg"):
        head.expect(name, {"type": "Linear"})
    head.ignore("conv_out_channels")
    return {
        "_target_": "samebox.networks.nets.rcnn.BoxHead",
        "roi_align": roi_align,
        "in_channels": head.integer("in_channels", 256),
        "channels": head.integer("fc_out_channels", 1024),
        "num_classes": num_classes(head),
        "stds": delta_stds(head, (0.1, 0.1, 0.2, 0.2)),
        "class_agnostic": class_agnostic,
    }


def mask_head(head: Section, roi_align: dict[str, Any]) -> dict[str, Any]:
    """FCNMaskHead."""
    head.choice("FCNMaskHead")
    expect_plain_convolutions(head)
    head.expect("conv_kernel_size", 3)
    head.expect("class_agnostic", False)
    head.expect("upsample_cfg", {"type": "deconv", "scale_factor": 2})
    head.expect("predictor_cfg", {"type": "Conv"})
    head.ignore("roi_feat_size")
    return {
        "_target_": "samebox.networks.nets.rcnn.FCNMaskHead",
        "roi_align": roi_align,
        "in_channels": head.integer("in_channels", 256),
        "channels": head.integer("conv_out_channels", 256),
        "convs": head.integer("num_convs", 4),
        "num_classes": num_classes(head),
    }


def coarse_mask_head(roi_head: Section) -> tuple[dict[str, Any], int]:
    """PointRend's CoarseMaskHead, and the stride of the single level that it reads."""
    with roi_head.section("mask_roi_extractor") as extractor:
        extractor.choice("GenericRoIExtractor")
        extractor.expect("aggregation", "concat", "sum")  # the same for a single level
        extractor.ignore("out_channels")
        with extractor.section("roi_layer") as layer:
            layer.choice("SimpleRoIAlign")
            side = layer.integer("output_size")
        strides = extractor.integers("featmap_strides")
        if len(strides) != 1:
            extractor.reject("featmap_strides", strides)
    with roi_head.section("mask_head") as head:
        head.choice("CoarseMaskHead")
        expect_plain_convolutions(head)
        head.expect("num_convs", 0)
        head.expect("downsample_factor", 2)
        head.ignore("roi_feat_size")
        network = {
            "_target_": "samebox.networks.nets.point_rend.CoarseMaskHead",
            "side": side,
            "in_channels": head.integer("in_channels", 256),
            "channels": head.integer("conv_out_channels", 256),
            "fcs": head.integer("num_fcs", 2),
            "fc_channels": head.integer("fc_out_channels", 1024),
            "num_classes": num_classes(head),
        }
    return network, strides[0] if strides else 0


def point_head(head: Section) -> dict[str, Any]:
    """PointRend's MaskPointHead."""
    head.choice("MaskPointHead")
    head.expect("coarse_pred_each_layer", True)
    head.expect("class_agnostic", False)
    head.expect("norm_cfg", None)
    head.expect("conv_cfg", {"type": "Conv1d"})
    head.expect("act_cfg", {"type": "ReLU"})
    return {
        "_target_": "samebox.networks.nets.point_rend.PointHead",
        "in_channels": head.integer("in_channels", 256),
        "channels": head.integer("fc_channels", 256),
        "fcs": head.integer("num_fcs", 3),
        "num_classes": num_classes(head),
    }
