"""MMDetection's configs, of its second and its third generation, to this project's."""

from collections.abc import Callable, Mapping
from typing import Any

from samebox.adopt import mmdetection_input as inputs
from samebox.adopt import mmdetection_parts as parts
from samebox.adopt.literal import Imported
from samebox.adopt.mmdetection_detr import detr
from samebox.adopt.section import Adopted, Findings, Section

Network = tuple[str, dict[str, Any]]  # the family, and what `network` is in it


def adopted(config: Mapping[str, Any], source: str) -> Adopted:
    """What the names of an MMDetection config say of the detector; `source` names it in messages.

    Raises SameboxError that names all keys which are not supported.
    """
    findings = Findings()
    held = config.get("model")
    test = held.get("test_cfg") if isinstance(held, Mapping) else None
    with Section(held, "model", findings, parts.TRAINING) as model:
        model.skip("test_cfg")
        kind = model.kind(*NETWORKS)
        findings.check(source)
        normalize, divisor = inputs.data_preprocessor(model, config)
        limits = Section(config.get("test_cfg") if test is None else test, "test_cfg", findings)
        with limits:
            family, network = NETWORKS[kind](model, limits)
    preprocess, normalize = inputs.pipeline(
        config, findings, normalize, divisor, centred=family == "cornernet"
    )
    findings.check(source)
    if len(findings.classes) > 1:
        findings.unsupported.append(f"num_classes: heads with {sorted(findings.classes)}")
    findings.check(source)
    values = {"normalize": normalize, "preprocess": preprocess, "network": network}
    return Adopted(
        family,
        values,
        num_classes=min(findings.classes),
        class_names=inputs.class_names(config),
        remarks=tuple(findings.remarks),
    )


def retinanet(model: Section, test: Section) -> Network:
    """RetinaNet."""
    return "retinanet", one_stage(model, test, "samebox.networks.nets.retinanet.RetinaNet", parts.retina_head)


def fsaf(model: Section, test: Section) -> Network:
    """FSAF."""
    return "fsaf", one_stage(model, test, "samebox.networks.nets.retinanet.RetinaNet", parts.fsaf_head)


def fcos(model: Section, test: Section) -> Network:
    """FCOS."""
    return "fcos", one_stage(model, test, "samebox.networks.nets.fcos.FCOS", parts.fcos_head)


def one_stage(
    model: Section, test: Section, target: str, head: Callable[[Section], dict[str, Any]]
) -> dict[str, Any]:
    """ResNet, FPN and a head with towers."""
    return {
        "_target_": target,
        **pyramid(model),
        "bbox_head": parts.built(model, "bbox_head", head),
        **parts.dense_limits(test),
    }


def pyramid(model: Section) -> dict[str, Any]:
    """ResNet and FPN."""
    backbone = parts.built(model, "backbone", parts.resnet)
    with model.section("neck") as neck:
        return {"backbone": backbone, "neck": parts.fpn(neck, backbone)}


def any_backbone(model: Section, **known: Callable[[Section], dict[str, Any]]) -> dict[str, Any]:
    """A backbone of one of the types `known`."""
    with model.section("backbone") as backbone:
        held = backbone.peek("type")
        name = str(held.name if isinstance(held, Imported) else held).rpartition(".")[2]
        return known.get(name, next(iter(known.values())))(backbone)


def ssd(model: Section, test: Section) -> Network:
    """SSD and SSDLite."""
    return "ssd", {
        "_target_": "samebox.networks.nets.ssd.SSD",
        "backbone": any_backbone(model, SSDVGG=parts.vgg, MobileNetV2=parts.mobilenet),
        "neck": parts.built(model, "neck", parts.ssd_neck),
        "bbox_head": parts.built(model, "bbox_head", parts.ssd_head),
        **parts.dense_limits(test),
    }


def yolov3(model: Section, test: Section) -> Network:
    """YOLOv3."""
    return "yolov3", {
        "_target_": "samebox.networks.nets.yolov3.YOLOv3",
        "backbone": any_backbone(model, Darknet=parts.darknet, MobileNetV2=parts.mobilenet),
        "neck": parts.built(model, "neck", parts.yolo_neck),
        "bbox_head": parts.built(model, "bbox_head", parts.yolo_head),
        **parts.dense_limits(test),
        "objectness_threshold": float(test.number("conf_thr")),
    }


def rcnn(model: Section, test: Section, roi_head: dict[str, Any]) -> dict[str, Any]:
    """What R-CNNs have in common."""
    with model.section("rpn_head") as head:
        proposals = parts.rpn_head(head, test)
    return {
        "_target_": "samebox.networks.nets.rcnn.RCNN",
        **pyramid(model),
        "rpn_head": proposals,
        "roi_head": roi_head,
    }


def second_stage(head: Section, test: Section) -> dict[str, Any]:
    """What `test_cfg.rcnn` says; `head` is the RoI head, of which no part may be shared."""
    head.only("shared_head", None)
    with test.section("rcnn") as limits:
        limits.only("mask_thr_binary", 0.5)
        limits.only("min_bbox_size", 0, -1)
        found = {"nms": parts.final_nms(limits), "score_threshold": float(limits.number("score_thr"))}
        limits.skip("subdivision_steps", "subdivision_num_points", "scale_factor")
    return found


def faster_or_mask_rcnn(model: Section, test: Section) -> Network:
    """Faster and Mask R-CNN."""
    with model.section("roi_head") as head:
        head.kind("StandardRoIHead")
        stage = {"_target_": "samebox.networks.nets.rcnn.RoIHead", **second_stage(head, test)}
        align = parts.roi_align(head, "bbox_roi_extractor")
        with head.section("bbox_head") as boxes:
            stage["bbox_head"] = parts.bbox_head(boxes, align, agnostic=False)
        masked = head.peek("mask_head") is not None
        if masked:
            align = parts.roi_align(head, "mask_roi_extractor")
            with head.section("mask_head") as masks:
                stage["mask_head"] = parts.mask_head(masks, align)
    return "mask_rcnn" if masked else "faster_rcnn", rcnn(model, test, stage)


def cascade_rcnn(model: Section, test: Section) -> Network:
    """Cascade R-CNN, with masks or without."""
    with model.section("roi_head") as head:
        head.kind("CascadeRoIHead")
        head.skip("stage_loss_weights")
        stage = {"_target_": "samebox.networks.nets.rcnn.RoIHead", **second_stage(head, test)}
        count = head.whole("num_stages", 3)
        align = parts.roi_align(head, "bbox_roi_extractor")
        stage["bbox_head"] = {
            "_target_": "samebox.networks.nets.cascade.CascadedBoxHeads",
            "modules": [bbox_stage(section, align) for section in head.sections("bbox_head", count)],
        }
        masked = head.peek("mask_head") is not None
        if masked:
            align = parts.roi_align(head, "mask_roi_extractor")
            stage["mask_head"] = {
                "_target_": "samebox.networks.nets.cascade.AveragedMaskHeads",
                "modules": [mask_stage(section, align) for section in head.sections("mask_head", count)],
            }
    return "cascade_mask_rcnn" if masked else "cascade_rcnn", rcnn(model, test, stage)


def bbox_stage(section: Section, align: dict[str, Any]) -> dict[str, Any]:
    """A box head of a cascade."""
    with section:
        return parts.bbox_head(section, align, agnostic=True)


def mask_stage(section: Section, align: dict[str, Any]) -> dict[str, Any]:
    """A mask head of a cascade."""
    with section:
        return parts.mask_head(section, align)


def point_rend(model: Section, test: Section) -> Network:
    """PointRend on Mask R-CNN."""
    subdivision = Section(test.peek("rcnn"), "test_cfg.rcnn", test.findings)
    with model.section("roi_head") as head:
        head.kind("PointRendRoIHead")
        stage = {"_target_": "samebox.networks.nets.point_rend.PointRendRoIHead", **second_stage(head, test)}
        align = parts.roi_align(head, "bbox_roi_extractor")
        with head.section("bbox_head") as boxes:
            stage["bbox_head"] = parts.bbox_head(boxes, align, agnostic=False)
        stage["mask_head"], stage["stride"] = parts.coarse_mask_head(head)
        stage["point_head"] = parts.built(head, "point_head", parts.point_head)
    stage["steps"] = subdivision.whole("subdivision_steps")
    stage["points"] = subdivision.whole("subdivision_num_points")
    stage["scale"] = subdivision.whole("scale_factor")
    return "point_rend", rcnn(model, test, stage)


def solov2(model: Section, test: Section) -> Network:
    """SOLOv2."""
    network = {"_target_": "samebox.networks.nets.solov2.SOLOv2", **pyramid(model)}
    with model.section("mask_head") as head:
        network["strides"] = head.wholes("strides", (4, 8, 16, 32, 64))
        network["mask_head"] = parts.solo_head(head)
    test.only("mask_thr", 0.5)
    test.only("kernel", "gaussian")
    return "solov2", network | {
        "nms_pre": test.whole("nms_pre"),
        "count": test.whole("max_per_img"),
        "score_threshold": float(test.number("score_thr")),
        "filter_threshold": float(test.number("filter_thr")),
        "sigma": float(test.number("sigma")),
    }


def cornernet(model: Section, test: Section) -> Network:
    """CornerNet with soft NMS."""
    backbone = parts.built(model, "backbone", parts.hourglass)
    with model.section("bbox_head") as section:
        head = parts.corner_head(section, backbone["stacks"])
    test.only("local_maximum_kernel", 3)
    test.only("with_nms", True)
    test.skip("score_thr")  # soft NMS has its own
    with test.section("nms") as nms:
        nms.kind("soft_nms")
        nms.given("method", "gaussian")
        nms.skip("iou_threshold")  # of its other methods
        soft = {"sigma": nms.number("sigma", 0.5), "min_score": nms.number("min_score", 0.001)}
    return "cornernet", {
        "_target_": "samebox.networks.nets.cornernet.CornerNet",
        "backbone": backbone,
        "bbox_head": head,
        "nms": {
            "_target_": "samebox.networks.blocks.soft_nms.SoftNMS",
            **soft,
            "count": test.whole("max_per_img"),
        },
        "corners": test.whole("corner_topk", 100),
        "distance_threshold": float(test.number("distance_threshold", 0.5)),
    }


# A model's type → what it is here
NETWORKS: dict[str, Callable[[Section, Section], Network]] = {
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
