"""MMDetection's `test_cfg`: score thresholds and NMS."""

from typing import Any

from samebox.adopt.section import Section

# The detections of one class that GreedyNMS keeps in the configs of conf/family
FAMILY_PER_CLASS = 200


def nms_threshold(test: Section) -> float:
    """The IoU threshold of `nms`; another method than greedy NMS by class is rejected."""
    with test.section("nms") as nms:
        nms.choice("nms")
        nms.expect("class_agnostic", False)
        nms.ignore("split_thr")
        return float(nms.number("iou_threshold" if "iou_threshold" in nms else "iou_thr"))


def greedy_nms(iou_threshold: float, count: int) -> dict[str, Any]:
    """NMS that keeps at most `count` boxes."""
    return {
        "_target_": "samebox.networks.blocks.nms.GreedyNMS",
        "iou_threshold": iou_threshold,
        "count": count,
    }


def final_nms(test: Section) -> dict[str, Any]:
    """The NMS that gives the detections."""
    nms = greedy_nms(nms_threshold(test), test.integer("max_per_img"))
    # The limit of a class takes effect only if an image may have more detections than that.
    return nms | ({"per_class": nms["count"]} if nms["count"] > FAMILY_PER_CLASS else {})


def one_stage_settings(test: Section) -> dict[str, Any]:
    """The test settings of a one-stage detector."""
    test.expect("min_bbox_size", 0, -1)
    return {
        "nms": final_nms(test),
        "nms_pre": test.integer("nms_pre"),
        "score_threshold": float(test.number("score_thr")),
    }


def proposal_settings(test: Section) -> dict[str, Any]:
    """The settings of the proposals, `test_cfg.rpn`."""
    with test.section("rpn") as settings:
        settings.expect("nms_across_levels", False)
        settings.expect("min_bbox_size", 0, -1)
        count = settings.integer("max_per_img" if "max_per_img" in settings else "max_num")
        if settings.integer("nms_post", count) < count:
            settings.reject("nms_post")
        threshold = settings.number("nms_thr") if "nms_thr" in settings else nms_threshold(settings)
        return {"nms": greedy_nms(threshold, count), "nms_pre": settings.integer("nms_pre")}


def second_stage_settings(test: Section) -> dict[str, Any]:
    """The settings of an R-CNN's second stage, `test_cfg.rcnn`."""
    with test.section("rcnn") as settings:
        settings.expect("mask_thr_binary", 0.5)
        settings.expect("min_bbox_size", 0, -1)
        settings.ignore("subdivision_steps", "subdivision_num_points", "scale_factor")  # see rcnn.point_rend
        return {"nms": final_nms(settings), "score_threshold": float(settings.number("score_thr"))}
