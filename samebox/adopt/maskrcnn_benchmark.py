"""maskrcnn-benchmark's YAML configs to this project's; absent keys have its own defaults."""

import re
from collections.abc import Mapping
from typing import Any

from samebox.adopt import detectron
from samebox.adopt.section import Adopted, Findings, Section

# What training alone reads, by key; "*": how a key begins
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
_PARTS = ("RETINANET", "FBNET", "ROI_MASK_HEAD", "ROI_KEYPOINT_HEAD")


def adopted(config: Mapping[str, Any], source: str) -> Adopted:
    """What a maskrcnn-benchmark config says of the detector; `source` names it in messages.

    Raises SameboxError that names all keys which are not supported.
    """
    findings = Findings()
    with Section(config, "", findings, TRAINING) as top:
        names = detectron.class_names(top)
        with top.section("TEST") as test:
            test.skip("EXPECTED_RESULTS", "EXPECTED_RESULTS_SIGMA_TOL", "IMS_PER_BATCH", "DETECTIONS_PER_IMG")
            with test.section("BBOX_AUG") as part:
                part.off("ENABLED")
                part.left.clear()
        values = images(top)
        with top.section("MODEL") as model:
            model.kind("GeneralizedRCNN", key="META_ARCHITECTURE", default="GeneralizedRCNN")
            for name in ("RPN_ONLY", "RETINANET_ON", "CLS_AGNOSTIC_BBOX_REG"):
                model.off(name)
            family, values["network"] = rcnn(model)
            model.skip(*_PARTS)
    findings.check(source)
    return Adopted(family, values, min(findings.classes), class_names=names)


def images(top: Section) -> dict[str, Any]:
    """How images come onto the canvas, and their normalisation."""
    with top.section("DATALOADER") as section:
        divisor = section.whole("SIZE_DIVISIBILITY", 0) or 1
        section.left.clear()
    with top.section("INPUT") as section:
        section.only("TO_BGR255", True)
        resize = detectron.resize(section)
        mean, std = (
            [float(value) for value in section.numbers(key, default)]
            for key, default in (
                ("PIXEL_MEAN", (102.9801, 115.9465, 122.7717)),
                ("PIXEL_STD", (1.0, 1.0, 1.0)),
            )
        )
    normalize = {"mean": mean, "std": std, "channel_order": "BGR"}
    return {"normalize": normalize, "preprocess": {"resize": resize, "divisor": divisor}}


def pyramid(model: Section) -> dict[str, Any]:
    """ResNet and FPN."""
    with model.section("BACKBONE") as section:
        body = section.raw("CONV_BODY", "R-50-C4")
        section.off("USE_GN")
        width = section.whole("OUT_CHANNELS", 256)
    found = re.fullmatch(r"R-(\d+)-FPN", str(body))
    if not found:
        model.unsupported("BACKBONE.CONV_BODY", body)
    with model.section("RESNETS") as section:
        section.only("TRANS_FUNC", "BottleneckWithFixedBatchNorm")
        section.only("STEM_FUNC", "StemWithFixedBatchNorm")
        width = section.whole("BACKBONE_OUT_CHANNELS", width)
        for name in ("STAGE_WITH_DCN", "WITH_MODULATED_DCN"):
            section.off(name)
        section.skip("DEFORMABLE_GROUPS")
        backbone, channels = detectron.resnet(section, int(found[1]) if found else 50, [0, 1, 2, 3])
    with model.section("FPN") as section:
        for name in ("USE_GN", "USE_RELU"):
            section.off(name)
    return {"backbone": backbone, "neck": {"in_channels": channels, "out_channels": width}}


def rcnn(model: Section) -> tuple[str, dict[str, Any]]:
    """The family, and its `network`."""
    masks, keypoints = model.flag("MASK_ON", False), model.flag("KEYPOINT_ON", False)
    network = pyramid(model)
    width = network["neck"]["out_channels"]
    network["rpn_head"] = rpn_head(model, width)
    network["neck"]["num_outs"] = len(network["rpn_head"]["anchors"]["strides"])
    network["roi_head"] = roi_head(model, width)
    if masks:
        network["roi_head"]["mask_head"] = mask_head(model, width)
    if keypoints:
        network["roi_head"]["keypoint_head"] = keypoint_head(model, width)
    if masks and keypoints:
        model.unsupported("KEYPOINT_ON", "with MASK_ON")
    return "mb_mask_rcnn" if masks else "mb_keypoint_rcnn" if keypoints else "mb_faster_rcnn", network


def rpn_head(model: Section, width: int) -> dict[str, Any]:
    """The proposals."""
    with model.section("RPN") as section:
        section.given("USE_FPN", True)
        section.kind("SingleConvRPNHead", key="RPN_HEAD", default="SingleConvRPNHead")
        section.only("MIN_SIZE", 0)
        strides = section.wholes("ANCHOR_STRIDE", (16,))
        sizes = [[size] for size in section.numbers("ANCHOR_SIZES", (32, 64, 128, 256, 512))]
        count = section.whole("FPN_POST_NMS_TOP_N_TEST", 2000)
        if section.whole("POST_NMS_TOP_N_TEST", 1000) != count:
            section.unsupported("POST_NMS_TOP_N_TEST", f"other than FPN_POST_NMS_TOP_N_TEST, {count}")
        return {
            "in_channels": width,
            "channels": width,
            "anchors": {
                "strides": strides,
                "ratios": section.numbers("ASPECT_RATIOS", (0.5, 1.0, 2.0)),
                "scales": detectron.scales(section, "ANCHOR_SIZES", sizes, strides),
            },
            "nms": {"iou_threshold": section.number("NMS_THRESH", 0.7), "count": count},
            "nms_pre": section.whole("PRE_NMS_TOP_N_TEST", 6000),
        }


def roi_head(model: Section, width: int) -> dict[str, Any]:
    """The second stage with its box head."""
    with model.section("ROI_HEADS") as section:
        section.given("USE_FPN", True)
        unit = detectron.stds(section, "BBOX_REG_WEIGHTS", (10.0, 10.0, 5.0, 5.0))
        found: dict[str, Any] = {
            "nms": {
                "iou_threshold": section.number("NMS", 0.5),
                "count": section.whole("DETECTIONS_PER_IMG", 100),
            },
            "score_threshold": section.number("SCORE_THRESH", 0.05),
        }
    with model.section("ROI_BOX_HEAD") as section:
        section.kind("FPN2MLPFeatureExtractor", key="FEATURE_EXTRACTOR")
        section.kind("FPNPredictor", key="PREDICTOR")
        section.off("USE_GN")
        section.skip("DILATION", "CONV_HEAD_DIM", "NUM_STACKED_CONVS")  # of other extractors
        section.findings.classes.add(section.whole("NUM_CLASSES", 81) - 1)
        found["bbox_head"] = {
            "roi_align": pooler(section),
            "in_channels": width,
            "channels": section.whole("MLP_HEAD_DIM", 1024),
            "stds": unit,
        }
    return found


def pooler(section: Section) -> dict[str, Any]:
    """RoIAlign, with so many samples a bin or as many as it takes."""
    scales = section.numbers("POOLER_SCALES", (1 / 16,))
    strides = [round(1 / scale) if scale else 0 for scale in scales]
    size = section.whole("POOLER_RESOLUTION", 14)
    return {"_args_": [size, strides], "samples": section.whole("POOLER_SAMPLING_RATIO", 0) or None}


def mask_head(model: Section, width: int) -> dict[str, Any]:
    """The masks."""
    with model.section("ROI_MASK_HEAD") as section:
        section.kind("MaskRCNNFPNFeatureExtractor", key="FEATURE_EXTRACTOR")
        section.kind("MaskRCNNC4Predictor", key="PREDICTOR")
        section.off("USE_GN")
        section.only("DILATION", 1)
        section.only("POSTPROCESS_MASKS_THRESHOLD", 0.5)
        section.skip("POSTPROCESS_MASKS", "RESOLUTION", "MLP_HEAD_DIM")
        channels, convs = detectron.same_widths(section, "CONV_LAYERS", (256,) * 4)
        return {"roi_align": pooler(section), "in_channels": width, "channels": channels, "convs": convs}


def keypoint_head(model: Section, width: int) -> dict[str, Any]:
    """The keypoints."""
    with model.section("ROI_KEYPOINT_HEAD") as section:
        section.kind("KeypointRCNNFeatureExtractor", key="FEATURE_EXTRACTOR")
        section.kind("KeypointRCNNPredictor", key="PREDICTOR")
        section.skip("RESOLUTION", "MLP_HEAD_DIM")
        channels, convs = detectron.same_widths(section, "CONV_LAYERS", (512,) * 8)
        return {
            "roi_align": pooler(section),
            "in_channels": width,
            "channels": channels,
            "convs": convs,
            "num_keypoints": section.whole("NUM_CLASSES", 17),
        }
