"""detectron2's YAML configs; keys that are absent have the defaults of detectron2's config/defaults.py."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from samebox.adopt import detectron
from samebox.adopt.result import AdoptedConfig, Diagnostics
from samebox.adopt.section import Section

ARCHITECTURES = ("GeneralizedRCNN", "PanopticFPN", "RetinaNet")
# Keys and sections that only training uses, at any level; "*": any ending
TRAINING = (
    *detectron.TRAINING,
    "BBOX_REG_LOSS_*",
    "BATCH_SIZE_PER_IMAGE",
    "BOUNDARY_THRESH",
    "DEVICE",
    "FED_LOSS_*",
    "FOCAL_LOSS_*",
    "FREEZE_AT",
    "IGNORE_VALUE",
    "INSTANCE_LOSS_WEIGHT",
    "IOU_LABELS",
    "IOU_THRESHOLDS",
    "LOSS_WEIGHT",
    "MASK_FORMAT",
    "MAX_SIZE_TRAIN",
    "MIN_KEYPOINTS_PER_IMAGE",
    "MIN_SIZE_TRAIN*",
    "NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS",
    "POSITIVE_FRACTION",
    "POST_NMS_TOPK_TRAIN",
    "PRE_NMS_TOPK_TRAIN",
    "PRIOR_PROB",
    "PROPOSAL_APPEND_GT",
    "RANDOM_FLIP",
    "CROP",
    "SMOOTH_L1_*",
    "TRAIN_ON_PRED_BOXES",
    "USE_FED_LOSS",
    "WEIGHTS",
)
# Parts of MODEL that a complete config contains even if the network does not have them
_UNUSED_PARTS = (
    "RETINANET",
    "ROI_MASK_HEAD",
    "ROI_KEYPOINT_HEAD",
    "SEM_SEG_HEAD",
    "PANOPTIC_FPN",
    "RPN",
    "ROI_HEADS",
    "ROI_BOX_HEAD",
    "PROPOSAL_GENERATOR",
    "ROI_BOX_CASCADE_HEAD",
    "ANCHOR_GENERATOR",
    "MASK_ON",
    "KEYPOINT_ON",
)


def adopt(config: Mapping[str, Any], source: str) -> AdoptedConfig:
    """The detector that a detectron2 config describes; `source` names the config in errors.

    Raises SameboxError with all keys that are not supported.
    """
    diagnostics = Diagnostics()
    with Section(config, "", diagnostics, TRAINING) as top:
        values: dict[str, Any] = {"preprocess": {"divisor": 32}}
        names = detectron.class_names(top)
        max_detections = detections_per_image(top)
        with top.section("MODEL") as model:
            architecture = model.choice(*ARCHITECTURES, key="META_ARCHITECTURE")
            diagnostics.raise_if_unsupported(source)
            values["normalize"] = images(top, model, values["preprocess"])
            if architecture == "RetinaNet":
                family, values["network"] = "d2_retinanet", retinanet(model, max_detections)
            else:
                family, values["network"] = rcnn(model, max_detections)
            num_stuff_classes = 0
            if architecture == "PanopticFPN":
                family, num_stuff_classes = "d2_panoptic_fpn", panoptic(model, family, values)
            model.expect_off("LOAD_PROPOSALS")
            model.ignore(*_UNUSED_PARTS)
    diagnostics.raise_if_unsupported(source)
    num_classes = min(diagnostics.class_counts)
    return AdoptedConfig(family, values, num_classes, num_stuff_classes, names, tuple(diagnostics.remarks))


def detections_per_image(top: Section) -> int:
    """How many detections an image has at most."""
    with top.section("TEST") as test:
        for name in ("AUG", "PRECISE_BN"):
            with test.section(name) as part:
                part.expect_off("ENABLED")
                part.ignore_rest()
        test.ignore("EXPECTED_RESULTS", "EVAL_PERIOD", "KEYPOINT_OKS_SIGMAS")
        return test.integer("DETECTIONS_PER_IMAGE", 100)


def images(top: Section, model: Section, preprocess: dict[str, Any]) -> dict[str, Any]:
    """The normalization. The test scale is added to `preprocess`."""
    with top.section("INPUT") as section:
        preprocess["resize"] = detectron.resize(section)
        channel_order = section.choice("BGR", "RGB", key="FORMAT", default="BGR")
    return detectron.normalization(model, (103.53, 116.28, 123.675), channel_order)


def backbone_with_fpn(model: Section, builder: str) -> dict[str, Any]:
    """ResNet and FPN; `builder` is the name of the backbone's build function."""
    with model.section("BACKBONE") as section:
        section.choice(builder, key="NAME", default="build_resnet_backbone")
    with model.section("RESNETS") as section:
        stages = detectron.levels(section, "OUT_FEATURES", "res", ["res4"])
        for name in ("DEFORM_ON_PER_STAGE", "DEFORM_MODULATED"):
            section.expect_off(name)
        section.ignore("DEFORM_NUM_GROUPS")
        section.expect("NORM", "FrozenBN", "BN", "SyncBN")
        depth = section.integer("DEPTH", 50)
        backbone, channels = detectron.resnet(section, depth, [stage - 2 for stage in stages])
    with model.section("FPN") as section:
        section.require("IN_FEATURES", [f"res{stage}" for stage in stages])
        section.expect("NORM", "")
        section.expect("FUSE_TYPE", "sum")
        neck = {"in_channels": channels, "out_channels": section.integer("OUT_CHANNELS", 256)}
    return {"backbone": backbone, "neck": neck}


def level_strides(section: Section, default: list[str]) -> list[int]:
    """The strides of the levels in IN_FEATURES."""
    return [2**level for level in detectron.levels(section, "IN_FEATURES", "p", default)]


def anchors(model: Section, strides: list[int]) -> dict[str, Any]:
    """The anchors at levels of `strides`. Their `scales` are sides as multiples of the stride."""
    with model.section("ANCHOR_GENERATOR") as section:
        section.choice("DefaultAnchorGenerator", key="NAME", default="DefaultAnchorGenerator")
        section.expect("OFFSET", 0.0)
        section.ignore("ANGLES")
        sizes = by_level(section, "SIZES", [[32, 64, 128, 256, 512]], len(strides))
        ratios = by_level(section, "ASPECT_RATIOS", [[0.5, 1.0, 2.0]], len(strides))
        if any(level != ratios[0] for level in ratios):
            section.reject("ASPECT_RATIOS", ratios)
        return {
            "strides": strides,
            "ratios": ratios[0],
            "scales": detectron.scales(section, "SIZES", sizes, strides),
        }


def by_level(section: Section, key: str, default: list[list[float]], levels: int) -> list[list[float]]:
    """A list of numbers for each level; a single list holds for all levels."""
    value = section.take(key, default)
    rows = value if isinstance(value, list) else []
    rows = rows if len(rows) > 1 else rows * levels
    well_formed = [
        isinstance(row, list) and all(isinstance(item, int | float) for item in row) for row in rows
    ]
    if not rows or not all(well_formed):
        section.reject(key, value)
        return [[1.0]] * levels
    return [[float(item) for item in row] for row in rows]


def retinanet(model: Section, max_detections: int) -> dict[str, Any]:
    """The `network` of RetinaNet."""
    network = backbone_with_fpn(model, "build_retinanet_resnet_fpn_backbone")
    with model.section("RETINANET") as head:
        strides = level_strides(head, ["p3", "p4", "p5", "p6", "p7"])
        head_anchors = anchors(model, strides)
        head.expect("BBOX_REG_WEIGHTS", (1.0, 1.0, 1.0, 1.0))
        head.expect("NORM", "")
        head.diagnostics.class_counts.add(head.integer("NUM_CLASSES", 80))
        channels = network["neck"]["out_channels"]
        head_anchors["scales"] = detectron.octave(head, "ANCHOR_GENERATOR.SIZES", head_anchors["scales"])
        network |= {
            "bbox_head": {
                "in_channels": channels,
                "channels": channels,
                "convs": head.integer("NUM_CONVS", 4),
                "anchors": head_anchors,
            },
            "nms": {"iou_threshold": head.number("NMS_THRESH_TEST", 0.5), "count": max_detections},
            "nms_pre": head.integer("TOPK_CANDIDATES_TEST", 1000),
            "score_threshold": head.number("SCORE_THRESH_TEST", 0.05),
        }
    network["neck"]["num_outs"] = len(strides)
    return network


def rcnn(model: Section, max_detections: int) -> tuple[str, dict[str, Any]]:
    """The family of an R-CNN, and its `network`."""
    network = backbone_with_fpn(model, "build_resnet_fpn_backbone")
    channels = network["neck"]["out_channels"]
    network["rpn_head"] = rpn_head(model, channels)
    network["neck"]["num_outs"] = len(network["rpn_head"]["anchors"]["strides"])
    network["roi_head"], roi_strides = roi_head(model, channels, max_detections)
    family = detectron.add_optional_heads(
        model,
        network["roi_head"],
        partial(mask_head, model, channels, roi_strides),
        partial(keypoint_head, model, channels, roi_strides),
    )
    return f"d2_{family}", network


def rpn_head(model: Section, channels: int) -> dict[str, Any]:
    """The head that proposes boxes."""
    with model.section("PROPOSAL_GENERATOR") as section:
        section.choice("RPN", key="NAME", default="RPN")
        section.expect("MIN_SIZE", 0)
    with model.section("RPN") as section:
        section.choice("StandardRPNHead", key="HEAD_NAME", default="StandardRPNHead")
        section.expect("CONV_DIMS", [-1], [channels])
        section.expect("BBOX_REG_WEIGHTS", (1.0, 1.0, 1.0, 1.0))
        strides = level_strides(section, ["res4"])
        nms = {
            "iou_threshold": section.number("NMS_THRESH", 0.7),
            "count": section.integer("POST_NMS_TOPK_TEST", 1000),
        }
        nms_pre = section.integer("PRE_NMS_TOPK_TEST", 6000)
    return {
        "in_channels": channels,
        "channels": channels,
        "anchors": anchors(model, strides),
        "nms": nms,
        "nms_pre": nms_pre,
    }


def roi_head(model: Section, channels: int, max_detections: int) -> tuple[dict[str, Any], list[int]]:
    """The second stage with its box head, and the strides of the levels that RoIAlign reads."""
    with model.section("ROI_HEADS") as section:
        section.choice("StandardROIHeads", key="NAME", default="Res5ROIHeads")
        strides = level_strides(section, ["res4"])
        section.diagnostics.class_counts.add(section.integer("NUM_CLASSES", 80))
        head: dict[str, Any] = {
            "nms": {"iou_threshold": section.number("NMS_THRESH_TEST", 0.5), "count": max_detections},
            "score_threshold": section.number("SCORE_THRESH_TEST", 0.05),
        }
    with model.section("ROI_BOX_HEAD") as section:
        section.choice("FastRCNNConvFCHead", key="NAME", default="")
        section.require("NUM_FC", 2)
        section.expect("NUM_CONV", 0)
        section.ignore("CONV_DIM", "NORM")  # they concern convolutions, and there are none
        for name in ("CLS_AGNOSTIC_BBOX_REG", "USE_SIGMOID_CE"):
            section.expect_off(name)
        head["bbox_head"] = {
            "roi_align": roi_align(section, strides),
            "in_channels": channels,
            "channels": section.integer("FC_DIM", 1024),
            "stds": detectron.stds(section, "BBOX_REG_WEIGHTS", (10.0, 10.0, 5.0, 5.0)),
        }
    return head, strides


def roi_align(section: Section, strides: list[int]) -> dict[str, Any]:
    """RoIAlign. ROIAlignV2 shifts boxes by half a cell (`aligned`); 0 samples mean an adaptive number."""
    kind = section.choice("ROIAlignV2", "ROIAlign", key="POOLER_TYPE", default="ROIAlignV2")
    return {
        "_args_": [section.integer("POOLER_RESOLUTION", 14), strides],
        "samples": section.integer("POOLER_SAMPLING_RATIO", 0) or None,
        "aligned": kind == "ROIAlignV2",
    }


def mask_head(model: Section, channels: int, strides: list[int]) -> dict[str, Any]:
    """The mask head."""
    with model.section("ROI_MASK_HEAD") as section:
        section.choice("MaskRCNNConvUpsampleHead", key="NAME", default="MaskRCNNConvUpsampleHead")
        section.expect("NORM", "")
        section.expect_off("CLS_AGNOSTIC_MASK")
        return {
            "roi_align": roi_align(section, strides),
            "in_channels": channels,
            "channels": section.integer("CONV_DIM", 256),
            "convs": section.integer("NUM_CONV", 0),
        }


def keypoint_head(model: Section, channels: int, strides: list[int]) -> dict[str, Any]:
    """The keypoint head."""
    with model.section("ROI_KEYPOINT_HEAD") as section:
        section.choice("KRCNNConvDeconvUpsampleHead", key="NAME", default="KRCNNConvDeconvUpsampleHead")
        conv_channels, convs = detectron.equal_channels(section, "CONV_DIMS", (512,) * 8)
        return {
            "roi_align": roi_align(section, strides),
            "in_channels": channels,
            "channels": conv_channels,
            "convs": convs,
            "num_keypoints": section.integer("NUM_KEYPOINTS", 17),
        }


def panoptic(model: Section, family: str, values: dict[str, Any]) -> int:
    """The number of stuff classes of Panoptic FPN on an R-CNN of the family `family`.

    The semantic head and the rule that merges segments are added to `values`.
    """
    if family != "d2_mask_rcnn":
        model.reject("MASK_ON", False)
    with model.section("SEM_SEG_HEAD") as section:
        section.choice("SemSegFPNHead", key="NAME", default="SemSegFPNHead")
        section.expect("IN_FEATURES", ["p2", "p3", "p4", "p5"])
        section.expect("COMMON_STRIDE", 4)
        section.expect("NORM", "GN")
        num_stuff_classes = section.integer("NUM_CLASSES", 54) - 1  # one class stands for all things
        values["network"]["semantic_head"] = {
            "in_channels": values["network"]["neck"]["out_channels"],
            "channels": section.integer("CONVS_DIM", 128),
            "num_stuff_classes": num_stuff_classes,
        }
    with model.section("PANOPTIC_FPN") as section, section.section("COMBINE") as rule:
        rule.ignore("ENABLED")  # detectron2 no longer reads it
        values["decoding"] = {
            "panoptic": {
                "score": rule.number("INSTANCES_CONFIDENCE_THRESH", 0.5),
                "overlap": rule.number("OVERLAP_THRESH", 0.5),
                "stuff_area": rule.integer("STUFF_AREA_LIMIT", 4096),
            }
        }
    return num_stuff_classes
