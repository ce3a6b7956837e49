"""maskrcnn-benchmark's YAML configs; keys that are absent have the defaults of its config/defaults.py."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from samebox.adopt import detectron
from samebox.adopt.result import AdoptedConfig, Diagnostics
from samebox.adopt.section import Section

# Keys and sections that only training uses, at any level; "*": any ending
TRAINING = (
    *detectron.TRAINING,
    "BATCH_SIZE_PER_IMAGE",
    "BG_IOU_THRESHOLD",
    "BRIGHTNESS",
    "C2_COMPAT",
    "CONTRAST",
    "DEVICE",
    "FG_IOU_THRESHOLD",
    "FPN_POST_NMS_PER_BATCH",
    "FPN_POST_NMS_TOP_N_TRAIN",
    "FREEZE_CONV_BODY_AT",
    "GROUP_NORM",
    "HORIZONTAL_FLIP_PROB_TRAIN",
    "HUE",
    "MAX_SIZE_TRAIN",
    "MIN_SIZE_RANGE_TRAIN",
    "MIN_SIZE_TRAIN",
    "POSITIVE_FRACTION",
    "POST_NMS_TOP_N_TRAIN",
    "PRE_NMS_TOP_N_TRAIN",
    "SATURATION",
    "SHARE_BOX_FEATURE_EXTRACTOR",
    "SHARE_FEATURES_DURING_TRAINING",
    "STRADDLE_THRESH",
    "VERTICAL_FLIP_PROB_TRAIN",
    "WEIGHT",
)
# Parts of MODEL that a complete config contains even if the network does not have them
_UNUSED_PARTS = ("RETINANET", "FBNET", "ROI_MASK_HEAD", "ROI_KEYPOINT_HEAD")


def adopt(config: Mapping[str, Any], source: str) -> AdoptedConfig:
    """The detector that a maskrcnn-benchmark config describes; `source` names the config in errors.

    Raises SameboxError with all keys that are not supported.
    """
    diagnostics = Diagnostics()
    with Section(config, "", diagnostics, TRAINING) as top:
        names = detectron.class_names(top)
        with top.section("TEST") as test:
            test.ignore(
                "EXPECTED_RESULTS", "EXPECTED_RESULTS_SIGMA_TOL", "IMS_PER_BATCH", "DETECTIONS_PER_IMG"
            )
            with test.section("BBOX_AUG") as part:
                part.expect_off("ENABLED")
                part.ignore_rest()
        values = images(top)
        with top.section("MODEL") as model:
            model.choice("GeneralizedRCNN", key="META_ARCHITECTURE", default="GeneralizedRCNN")
            for name in ("RPN_ONLY", "RETINANET_ON", "CLS_AGNOSTIC_BBOX_REG"):
                model.expect_off(name)
            family, values["network"] = rcnn(model)
            model.ignore(*_UNUSED_PARTS)
    diagnostics.raise_if_unsupported(source)
    return AdoptedConfig(family, values, min(diagnostics.class_counts), class_names=names)


def images(top: Section) -> dict[str, Any]:
    """The resize rule, the divisor of the canvas and the normalization."""
    with top.section("DATALOADER") as section:
        divisor = section.integer("SIZE_DIVISIBILITY", 0) or 1
        section.ignore_rest()
    with top.section("INPUT") as section:
        section.expect("TO_BGR255", True)
        resize = detectron.resize(section)
        normalize = detectron.normalization(section, (102.9801, 115.9465, 122.7717), "BGR")
    return {"normalize": normalize, "preprocess": {"resize": resize, "divisor": divisor}}


def backbone_with_fpn(model: Section) -> dict[str, Any]:
    """ResNet and FPN."""
    with model.section("BACKBONE") as section:
        body = section.take("CONV_BODY", "R-50-C4")
        section.expect_off("USE_GN")
        out_channels = section.integer("OUT_CHANNELS", 256)
    match = re.fullmatch(r"R-(\d+)-FPN", str(body))
    if not match:
        model.reject("BACKBONE.CONV_BODY", body)
    with model.section("RESNETS") as section:
        section.expect("TRANS_FUNC", "BottleneckWithFixedBatchNorm")
        section.expect("STEM_FUNC", "StemWithFixedBatchNorm")
        out_channels = section.integer("BACKBONE_OUT_CHANNELS", out_channels)
        for name in ("STAGE_WITH_DCN", "WITH_MODULATED_DCN"):
            section.expect_off(name)
        section.ignore("DEFORMABLE_GROUPS")
        backbone, channels = detectron.resnet(section, int(match[1]) if match else 50, [0, 1, 2, 3])
    with model.section("FPN") as section:
        for name in ("USE_GN", "USE_RELU"):
            section.expect_off(name)
    return {"backbone": backbone, "neck": {"in_channels": channels, "out_channels": out_channels}}


def rcnn(model: Section) -> tuple[str, dict[str, Any]]:
    """The family, and its `network`."""
    network = backbone_with_fpn(model)
    channels = network["neck"]["out_channels"]
    network["rpn_head"] = rpn_head(model, channels)
    network["neck"]["num_outs"] = len(network["rpn_head"]["anchors"]["strides"])
    network["roi_head"] = roi_head(model, channels)
    family = detectron.add_optional_heads(
        model,
        network["roi_head"],
        partial(mask_head, model, channels),
        partial(keypoint_head, model, channels),
    )
    return f"mb_{family}", network


def rpn_head(model: Section, channels: int) -> dict[str, Any]:
    """The head that proposes boxes."""
    with model.section("RPN") as section:
        section.require("USE_FPN", True)
        section.choice("SingleConvRPNHead", key="RPN_HEAD", default="SingleConvRPNHead")
        section.expect("MIN_SIZE", 0)
        strides = section.integers("ANCHOR_STRIDE", (16,))
        sizes = [[size] for size in section.numbers("ANCHOR_SIZES", (32, 64, 128, 256, 512))]
        count = section.integer("FPN_POST_NMS_TOP_N_TEST", 2000)
        if (level_count := section.integer("POST_NMS_TOP_N_TEST", 1000)) != count:
            section.reject("POST_NMS_TOP_N_TEST", level_count, f"FPN_POST_NMS_TOP_N_TEST is {count}")
        return {
            "in_channels": channels,
            "channels": channels,
            "anchors": {
                "strides": strides,
                "ratios": section.numbers("ASPECT_RATIOS", (0.5, 1.0, 2.0)),
                "scales": detectron.scales(section, "ANCHOR_SIZES", sizes, strides),
            },
            "nms": {"iou_threshold": section.number("NMS_THRESH", 0.7), "count": count},
            "nms_pre": section.integer("PRE_NMS_TOP_N_TEST", 6000),
        }


def roi_head(model: Section, channels: int) -> dict[str, Any]:
    """The second stage with its box head."""
    with model.section("ROI_HEADS") as section:
        section.require("USE_FPN", True)
        stds = detectron.stds(section, "BBOX_REG_WEIGHTS", (10.0, 10.0, 5.0, 5.0))
        head: dict[str, Any] = {
            "nms": {
                "iou_threshold": section.number("NMS", 0.5),
                "count": section.integer("DETECTIONS_PER_IMG", 100),
            },
            "score_threshold": section.number("SCORE_THRESH", 0.05),
        }
    with model.section("ROI_BOX_HEAD") as section:
        section.choice("FPN2MLPFeatureExtractor", key="FEATURE_EXTRACTOR")
        section.choice("FPNPredictor", key="PREDICTOR")
        section.expect_off("USE_GN")
        section.ignore("DILATION", "CONV_HEAD_DIM", "NUM_STACKED_CONVS")  # for other extractors
        num_classes = section.integer("NUM_CLASSES", 81) - 1  # the config counts the background
        section.diagnostics.class_counts.add(num_classes)
        head["bbox_head"] = {
            "roi_align": roi_align(section),
            "in_channels": channels,
            "channels": section.integer("MLP_HEAD_DIM", 1024),
            "stds": stds,
        }
    return head


def roi_align(section: Section) -> dict[str, Any]:
    """RoIAlign; 0 samples mean an adaptive number."""
    scales = section.numbers("POOLER_SCALES", (1 / 16,))
    strides = [round(1 / scale) if scale else 0 for scale in scales]
    size = section.integer("POOLER_RESOLUTION", 14)
    return {"_args_": [size, strides], "samples": section.integer("POOLER_SAMPLING_RATIO", 0) or None}


def mask_head(model: Section, in_channels: int) -> dict[str, Any]:
    """The mask head."""
    with model.section("ROI_MASK_HEAD") as section:
        section.choice("MaskRCNNFPNFeatureExtractor", key="FEATURE_EXTRACTOR")
        section.choice("MaskRCNNC4Predictor", key="PREDICTOR")
        section.expect_off("USE_GN")
        section.expect("DILATION", 1)
        section.expect("POSTPROCESS_MASKS_THRESHOLD", 0.5)
        section.ignore("POSTPROCESS_MASKS", "RESOLUTION", "MLP_HEAD_DIM")
        channels, convs = detectron.equal_channels(section, "CONV_LAYERS", (256,) * 4)
        return {
            "roi_align": roi_align(section),
            "in_channels": in_channels,
            "channels": channels,
            "convs": convs,
        }


def keypoint_head(model: Section, in_channels: int) -> dict[str, Any]:
    """The keypoint head."""
    with model.section("ROI_KEYPOINT_HEAD") as section:
        section.choice("KeypointRCNNFeatureExtractor", key="FEATURE_EXTRACTOR")
        section.choice("KeypointRCNNPredictor", key="PREDICTOR")
        section.ignore("RESOLUTION", "MLP_HEAD_DIM")
        channels, convs = detectron.equal_channels(section, "CONV_LAYERS", (512,) * 8)
        return {
            "roi_align": roi_align(section),
            "in_channels": in_channels,
            "channels": channels,
            "convs": convs,
            "num_keypoints": section.integer("NUM_CLASSES", 17),
        }
