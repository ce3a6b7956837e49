"""MMDetection's detectors, by the type of their model."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from samebox.adopt.mmdetection import backbones, dense_heads, images, necks
from samebox.adopt.mmdetection.backbones import Reader, read_backbone
from samebox.adopt.mmdetection.detr import detr
from samebox.adopt.mmdetection.rcnn import cascade_rcnn, faster_or_mask_rcnn, point_rend
from samebox.adopt.mmdetection.test_settings import one_stage_settings
from samebox.adopt.result import AdoptedConfig, Diagnostics
from samebox.adopt.section import Section

# Keys that only training uses, in any component; "*": any ending
TRAINING = (
    "loss_*",
    "init_cfg",
    "pretrained",
    "train_cfg",
    "frozen_stages",
    "norm_eval",
    "with_cp",
    "zero_init_residual",
    "reg_decoded_bbox",
)


def adopt(config: Mapping[str, Any], source: str) -> AdoptedConfig:
    """The detector that an MMDetection config describes; `source` names the config in errors.

    Raises SameboxError with all keys that are not supported.
    """
    diagnostics = Diagnostics()
    model_config = config.get("model")
    test_config = model_config.get("test_cfg") if isinstance(model_config, Mapping) else None
    with Section(model_config, "model", diagnostics, TRAINING) as model:
        model.ignore("test_cfg")
        reader = DETECTORS[model.choice(*DETECTORS)]
        diagnostics.raise_if_unsupported(source)
        normalize, divisor = images.data_preprocessor(model, config)
        # The first releases of MMDetection 2 have `test_cfg` beside the model.
        test_config = config.get("test_cfg") if test_config is None else test_config
        with Section(test_config, "test_cfg", diagnostics) as test:
            family, network = reader(model, test)
    preprocess, normalize = images.pipeline(
        config, diagnostics, normalize, divisor, centered=family == "cornernet"
    )
    diagnostics.raise_if_unsupported(source)
    if len(diagnostics.class_counts) > 1:
        counts = sorted(diagnostics.class_counts)
        diagnostics.unsupported.append(f"num_classes (heads have {counts})")
    diagnostics.raise_if_unsupported(source)
    return AdoptedConfig(
        family,
        {"normalize": normalize, "preprocess": preprocess, "network": network},
        num_classes=min(diagnostics.class_counts),
        class_names=images.class_names(config),
        remarks=tuple(diagnostics.remarks),
    )


def retinanet(model: Section, test: Section) -> tuple[str, dict[str, Any]]:
    """RetinaNet."""
    parts = fpn_parts(model, dense_heads.retina_head)
    return "retinanet", one_stage("samebox.networks.nets.retinanet.RetinaNet", parts, test)


def fsaf(model: Section, test: Section) -> tuple[str, dict[str, Any]]:
    """FSAF."""
    parts = fpn_parts(model, dense_heads.fsaf_head)
    return "fsaf", one_stage("samebox.networks.nets.retinanet.RetinaNet", parts, test)


def fcos(model: Section, test: Section) -> tuple[str, dict[str, Any]]:
    """FCOS."""
    parts = fpn_parts(model, dense_heads.fcos_head)
    return "fcos", one_stage("samebox.networks.nets.fcos.FCOS", parts, test)


def ssd(model: Section, test: Section) -> tuple[str, dict[str, Any]]:
    """SSD and SSDLite."""
    parts = plain_parts(model, backbones.FOR_SSD, necks.ssd_neck, dense_heads.ssd_head)
    return "ssd", one_stage("samebox.networks.nets.ssd.SSD", parts, test)


def yolov3(model: Section, test: Section) -> tuple[str, dict[str, Any]]:
    """YOLOv3."""
    parts = plain_parts(model, backbones.FOR_YOLOV3, necks.yolov3_neck, dense_heads.yolov3_head)
    network = one_stage("samebox.networks.nets.yolov3.YOLOv3", parts, test)
    return "yolov3", network | {"objectness_threshold": float(test.number("conf_thr"))}


def fpn_parts(model: Section, head: Reader) -> dict[str, Any]:
    """A backbone, FPN and a head."""
    return {**necks.backbone_with_fpn(model), "bbox_head": model.read("bbox_head", head)}


def plain_parts(
    model: Section, known_backbones: Mapping[str, Reader], neck: Reader, head: Reader
) -> dict[str, Any]:
    """A backbone, a neck that uses all of its outputs, and a head."""
    return {
        "backbone": read_backbone(model, known_backbones),
        "neck": model.read("neck", neck),
        "bbox_head": model.read("bbox_head", head),
    }


def one_stage(target: str, parts: dict[str, Any], test: Section) -> dict[str, Any]:
    """The network `target` of these parts, with its test settings."""
    return {"_target_": target, **parts, **one_stage_settings(test)}


def solov2(model: Section, test: Section) -> tuple[str, dict[str, Any]]:
    """SOLOv2."""
    network = {"_target_": "samebox.networks.nets.solov2.SOLOv2", **necks.backbone_with_fpn(model)}
    with model.section("mask_head") as head:
        network["strides"] = head.integers("strides", (4, 8, 16, 32, 64))
        network["mask_head"] = dense_heads.solov2_head(head)
    test.expect("mask_thr", 0.5)
    test.expect("kernel", "gaussian")
    return "solov2", network | {
        "nms_pre": test.integer("nms_pre"),
        "count": test.integer("max_per_img"),
        "score_threshold": float(test.number("score_thr")),
        "filter_threshold": float(test.number("filter_thr")),
        "sigma": float(test.number("sigma")),
    }


def cornernet(model: Section, test: Section) -> tuple[str, dict[str, Any]]:
    """CornerNet with soft NMS."""
    backbone = read_backbone(model, backbones.FOR_CORNERNET)
    head = model.read("bbox_head", partial(dense_heads.corner_head, stacks=backbone["stacks"]))
    test.expect("local_maximum_kernel", 3)
    test.expect("with_nms", True)
    test.ignore("score_thr")  # soft NMS has a threshold of its own
    with test.section("nms") as nms:
        nms.choice("soft_nms")
        nms.require("method", "gaussian")
        nms.ignore("iou_threshold")  # only other methods use it
        soft_nms = {"sigma": nms.number("sigma", 0.5), "min_score": nms.number("min_score", 0.001)}
    return "cornernet", {
        "_target_": "samebox.networks.nets.cornernet.CornerNet",
        "backbone": backbone,
        "bbox_head": head,
        "nms": {
            "_target_": "samebox.networks.blocks.soft_nms.SoftNMS",
            **soft_nms,
            "count": test.integer("max_per_img"),
        },
        "corners": test.integer("corner_topk", 100),
        "distance_threshold": float(test.number("distance_threshold", 0.5)),
    }


# The type of a model → the reader of its family and network, from the model and its test settings
DETECTORS: dict[str, Callable[[Section, Section], tuple[str, dict[str, Any]]]] = {
    "RetinaNet": retinanet,
    "FSAF": fsaf,
    "FCOS": fcos,
    "SingleStageDetector": ssd,
    "YOLOV3": yolov3,
    "FasterRCNN": faster_or_mask_rcnn,
    "MaskRCNN": faster_or_mask_rcnn,
    "CascadeRCNN": cascade_rcnn,
    "PointRend": point_rend,
    "DETR": detr,
    "SOLOv2": solov2,
    "CornerNet": cornernet,
}
