"""detectron2's YAML configs to this project's; absent keys have the defaults of its own list of them."""

from collections.abc import Mapping
from typing import Any

from samebox.adopt import detectron
from samebox.adopt.section import Adopted, Findings, Section

# What training alone reads, by section; "*": how a key begins
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
# Sections of a whole config for networks that this one is not
_PARTS = ("RETINANET", "ROI_MASK_HEAD", "ROI_KEYPOINT_HEAD", "SEM_SEG_HEAD", "PANOPTIC_FPN")
_RCNN = ("RPN", "ROI_HEADS", "ROI_BOX_HEAD", "PROPOSAL_GENERATOR")


def adopted(config: Mapping[str, Any], source: str) -> Adopted:
    """What a detectron2 config says of the detector; `source` names it in messages.

    Raises SameboxError that names all keys which are not supported.
    """
    findings = Findings()
    with Section(config, "", findings, TRAINING) as top:
        values: dict[str, Any] = {"preprocess": {"divisor": 32}}
        names = detectron.class_names(top)
        count = testing(top)
        with top.section("MODEL") as model:
            kind = model.kind("GeneralizedRCNN", "PanopticFPN", "RetinaNet", key="META_ARCHITECTURE")
            findings.check(source)
            values["normalize"] = images(top, model, values["preprocess"])
            family, stuff = (retinanet if kind == "RetinaNet" else rcnn)(model, kind, count, values)
            model.off("LOAD_PROPOSALS")
            model.skip(*_PARTS, *_RCNN, "ROI_BOX_CASCADE_HEAD", "ANCHOR_GENERATOR", "MASK_ON", "KEYPOINT_ON")
    findings.check(source)
    return Adopted(family, values, min(findings.classes), stuff, names, tuple(findings.remarks))


def testing(top: Section) -> int:
    """The most detections of an image."""
    with top.section("TEST") as test:
        for name in ("AUG", "PRECISE_BN"):
            with test.section(name) as part:
                part.off("ENABLED")
                part.left.clear()
        test.skip("EXPECTED_RESULTS", "EVAL_PERIOD", "KEYPOINT_OKS_SIGMAS")
        return test.whole("DETECTIONS_PER_IMAGE", 100)


def images(top: Section, model: Section, preprocess: dict[str, Any]) -> dict[str, Any]:
    """The normalisation; the resize goes to `preprocess`."""
    with top.section("INPUT") as section:
        preprocess["resize"] = detectron.resize(section)
        order = section.kind("BGR", "RGB", key="FORMAT", default="BGR")
    mean, std = (
        [float(value) for value in model.numbers(key, default)]
        for key, default in (("PIXEL_MEAN", (103.53, 116.28, 123.675)), ("PIXEL_STD", (1.0, 1.0, 1.0)))
    )
    return {"mean": mean, "std": std, "channel_order": order}


def pyramid(model: Section, builder: str) -> dict[str, Any]:
    """ResNet and FPN."""
    with model.section("BACKBONE") as section:
        section.kind(builder, key="NAME", default="build_resnet_backbone")
    with model.section("RESNETS") as section:
        stages = detectron.levels(section, "OUT_FEATURES", "res", ["res4"])
        for name in ("DEFORM_ON_PER_STAGE", "DEFORM_MODULATED"):
            section.off(name)
        section.skip("DEFORM_NUM_GROUPS")
        section.only("NORM", "FrozenBN", "BN", "SyncBN")
        depth = section.whole("DEPTH", 50)
        backbone, channels = detectron.resnet(section, depth, [stage - 2 for stage in stages])
    with model.section("FPN") as section:
        section.given("IN_FEATURES", [f"res{stage}" for stage in stages])
        section.only("NORM", "")
        section.only("FUSE_TYPE", "sum")
        neck = {"in_channels": channels, "out_channels": section.whole("OUT_CHANNELS", 256)}
    return {"backbone": backbone, "neck": neck}


def anchors(model: Section, strides: list[int]) -> dict[str, Any]:
    """The anchors at levels of `strides`; their scales as numbers."""
    with model.section("ANCHOR_GENERATOR") as section:
        section.kind("DefaultAnchorGenerator", key="NAME", default="DefaultAnchorGenerator")
        section.only("OFFSET", 0.0)
        section.skip("ANGLES")
        sizes = by_level(section, "SIZES", [[32, 64, 128, 256, 512]], len(strides))
        ratios = by_level(section, "ASPECT_RATIOS", [[0.5, 1.0, 2.0]], len(strides))
        if any(level != ratios[0] for level in ratios):
            section.unsupported("ASPECT_RATIOS", ratios)
        return {
            "strides": strides,
            "ratios": ratios[0],
            "scales": detectron.scales(section, "SIZES", sizes, strides),
        }


def by_level(section: Section, key: str, default: list[list[float]], levels: int) -> list[list[float]]:
    """Lists of numbers, one a level; where there is one alone it is for all of them."""
    held = section.raw(key, default)
    rows = (
        held if isinstance(held, list) and len(held) > 1 else held * levels if isinstance(held, list) else []
    )
    good = [isinstance(row, list) and all(isinstance(item, int | float) for item in row) for row in rows]
    if not rows or not all(good):
        section.unsupported(key, held)
        return [[1.0]] * levels
    return [[float(item) for item in row] for row in rows]


def retinanet(model: Section, kind: str, count: int, values: dict[str, Any]) -> tuple[str, int]:
    """RetinaNet: its family and no classes of stuff; `network` goes to `values`."""
    network = pyramid(model, "build_retinanet_resnet_fpn_backbone")
    with model.section("RETINANET") as head:
        strides = [
            2**level for level in detectron.levels(head, "IN_FEATURES", "p", ["p3", "p4", "p5", "p6", "p7"])
        ]
        boxes = anchors(model, strides)
        head.only("BBOX_REG_WEIGHTS", (1.0, 1.0, 1.0, 1.0))
        head.only("NORM", "")
        head.findings.classes.add(head.whole("NUM_CLASSES", 80))
        width = network["neck"]["out_channels"]
        boxes["scales"] = detectron.octave(head, "ANCHOR_GENERATOR.SIZES", boxes["scales"])
        convs = head.whole("NUM_CONVS", 4)
        network |= {
            "bbox_head": {"in_channels": width, "channels": width, "convs": convs, "anchors": boxes},
            "nms": {"iou_threshold": head.number("NMS_THRESH_TEST", 0.5), "count": count},
            "nms_pre": head.whole("TOPK_CANDIDATES_TEST", 1000),
            "score_threshold": head.number("SCORE_THRESH_TEST", 0.05),
        }
    network["neck"]["num_outs"] = len(strides)
    values["network"] = network
    return "d2_retinanet", 0


def rcnn(model: Section, kind: str, count: int, values: dict[str, Any]) -> tuple[str, int]:
    """An R-CNN: its family and the number of classes of stuff; `network` goes to `values`."""
    masks, keypoints = model.flag("MASK_ON", False), model.flag("KEYPOINT_ON", False)
    network = pyramid(model, "build_resnet_fpn_backbone")
    width = network["neck"]["out_channels"]
    network["rpn_head"] = rpn_head(model, width)
    network["neck"]["num_outs"] = len(network["rpn_head"]["anchors"]["strides"])
    network["roi_head"], strides = roi_head(model, width, count)
    if masks:
        network["roi_head"]["mask_head"] = mask_head(model, width, strides)
    if keypoints:
        network["roi_head"]["keypoint_head"] = keypoint_head(model, width, strides)
    if masks and keypoints:
        model.unsupported("KEYPOINT_ON", "with MASK_ON")
    values["network"] = network
    if kind == "PanopticFPN":
        return "d2_panoptic_fpn", panoptic(model, values, masks, width)
    return "d2_mask_rcnn" if masks else "d2_keypoint_rcnn" if keypoints else "d2_faster_rcnn", 0


def rpn_head(model: Section, width: int) -> dict[str, Any]:
    """The proposals."""
    with model.section("PROPOSAL_GENERATOR") as section:
        section.kind("RPN", key="NAME", default="RPN")
        section.only("MIN_SIZE", 0)
    with model.section("RPN") as section:
        section.kind("StandardRPNHead", key="HEAD_NAME", default="StandardRPNHead")
        section.only("CONV_DIMS", [-1], [width])
        section.only("BBOX_REG_WEIGHTS", (1.0, 1.0, 1.0, 1.0))
        strides = [2**level for level in detectron.levels(section, "IN_FEATURES", "p", ["res4"])]
        nms = {
            "iou_threshold": section.number("NMS_THRESH", 0.7),
            "count": section.whole("POST_NMS_TOPK_TEST", 1000),
        }
        nms_pre = section.whole("PRE_NMS_TOPK_TEST", 6000)
    boxes = anchors(model, strides)
    return {"in_channels": width, "channels": width, "anchors": boxes, "nms": nms, "nms_pre": nms_pre}


def roi_head(model: Section, width: int, count: int) -> tuple[dict[str, Any], list[int]]:
    """The second stage with its box head, and the strides of the levels that it looks at."""
    with model.section("ROI_HEADS") as section:
        section.kind("StandardROIHeads", key="NAME", default="Res5ROIHeads")
        strides = [2**level for level in detectron.levels(section, "IN_FEATURES", "p", ["res4"])]
        section.findings.classes.add(section.whole("NUM_CLASSES", 80))
        found: dict[str, Any] = {
            "nms": {"iou_threshold": section.number("NMS_THRESH_TEST", 0.5), "count": count},
            "score_threshold": section.number("SCORE_THRESH_TEST", 0.05),
        }
    with model.section("ROI_BOX_HEAD") as section:
        section.kind("FastRCNNConvFCHead", key="NAME", default="")
        section.given("NUM_FC", 2)
        section.only("NUM_CONV", 0)
        section.skip("CONV_DIM", "NORM")  # of convolutions, of which there are none
        for name in ("CLS_AGNOSTIC_BBOX_REG", "USE_SIGMOID_CE"):
            section.off(name)
        found["bbox_head"] = {
            "roi_align": pooler(section, strides),
            "in_channels": width,
            "channels": section.whole("FC_DIM", 1024),
            "stds": detectron.stds(section, "BBOX_REG_WEIGHTS", (10.0, 10.0, 5.0, 5.0)),
        }
    return found, strides


def pooler(section: Section, strides: list[int]) -> dict[str, Any]:
    """RoIAlign, with half a cell's shift or without."""
    kind = section.kind("ROIAlignV2", "ROIAlign", key="POOLER_TYPE", default="ROIAlignV2")
    return {
        "_args_": [section.whole("POOLER_RESOLUTION", 14), strides],
        "samples": section.whole("POOLER_SAMPLING_RATIO", 0) or None,
        "aligned": kind == "ROIAlignV2",
    }


def mask_head(model: Section, width: int, strides: list[int]) -> dict[str, Any]:
    """The masks."""
    with model.section("ROI_MASK_HEAD") as section:
        section.kind("MaskRCNNConvUpsampleHead", key="NAME", default="MaskRCNNConvUpsampleHead")
        section.only("NORM", "")
        section.off("CLS_AGNOSTIC_MASK")
        return {
            "roi_align": pooler(section, strides),
            "in_channels": width,
            "channels": section.whole("CONV_DIM", 256),
            "convs": section.whole("NUM_CONV", 0),
        }


def keypoint_head(model: Section, width: int, strides: list[int]) -> dict[str, Any]:
    """The keypoints."""
    with model.section("ROI_KEYPOINT_HEAD") as section:
        section.kind("KRCNNConvDeconvUpsampleHead", key="NAME", default="KRCNNConvDeconvUpsampleHead")
        channels, convs = detectron.same_widths(section, "CONV_DIMS", (512,) * 8)
        return {
            "roi_align": pooler(section, strides),
            "in_channels": width,
            "channels": channels,
            "convs": convs,
            "num_keypoints": section.whole("NUM_KEYPOINTS", 17),
        }


def panoptic(model: Section, values: dict[str, Any], masks: bool, width: int) -> int:
    """The number of classes of stuff; the semantic head and the rule for segments go to `values`."""
    if not masks:
        model.unsupported("MASK_ON", False)
    with model.section("SEM_SEG_HEAD") as section:
        section.kind("SemSegFPNHead", key="NAME", default="SemSegFPNHead")
        section.only("IN_FEATURES", ["p2", "p3", "p4", "p5"])
        section.only("COMMON_STRIDE", 4)
        section.only("NORM", "GN")
        stuff = section.whole("NUM_CLASSES", 54) - 1
        channels = section.whole("CONVS_DIM", 128)
    values["network"]["semantic_head"] = {
        "in_channels": width,
        "channels": channels,
        "num_stuff_classes": stuff,
    }
    with model.section("PANOPTIC_FPN") as section, section.section("COMBINE") as rule:
        rule.skip("ENABLED")  # which nothing reads any more
        values["decoding"] = {
            "panoptic": {
                "score": rule.number("INSTANCES_CONFIDENCE_THRESH", 0.5),
                "overlap": rule.number("OVERLAP_THRESH", 0.5),
                "stuff_area": rule.whole("STUFF_AREA_LIMIT", 4096),
            }
        }
    return stuff
