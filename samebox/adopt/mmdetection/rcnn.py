"""MMDetection's R-CNNs: Faster, Mask and Cascade R-CNN, and PointRend."""

from functools import partial
from typing import Any

from samebox.adopt.mmdetection import roi_heads
from samebox.adopt.mmdetection.dense_heads import rpn_head
from samebox.adopt.mmdetection.necks import backbone_with_fpn
from samebox.adopt.mmdetection.test_settings import second_stage_settings
from samebox.adopt.section import Section


def faster_or_mask_rcnn(model: Section, test: Section) -> tuple[str, dict[str, Any]]:
    """Faster or Mask R-CNN."""
    with model.section("roi_head") as head:
        head.choice("StandardRoIHead")
        second_stage = roi_head(head, test, "samebox.networks.nets.rcnn.RoIHead")
        second_stage["bbox_head"] = box_head(head)
        has_masks = head.peek("mask_head") is not None
        if has_masks:
            align = roi_heads.roi_align(head, "mask_roi_extractor")
            second_stage["mask_head"] = head.read("mask_head", partial(roi_heads.mask_head, roi_align=align))
    return "mask_rcnn" if has_masks else "faster_rcnn", rcnn(model, test, second_stage)


def cascade_rcnn(model: Section, test: Section) -> tuple[str, dict[str, Any]]:
    """Cascade R-CNN, with or without masks."""
    with model.section("roi_head") as head:
        head.choice("CascadeRoIHead")
        head.ignore("stage_loss_weights")
        second_stage = roi_head(head, test, "samebox.networks.nets.rcnn.RoIHead")
        count = head.integer("num_stages", 3)
        align = roi_heads.roi_align(head, "bbox_roi_extractor")
        read_box_head = partial(roi_heads.box_head, roi_align=align, class_agnostic=True)
        second_stage["bbox_head"] = {
            "_target_": "samebox.networks.nets.cascade.CascadedBoxHeads",
            "modules": head.read_list("bbox_head", count, read_box_head),
        }
        has_masks = head.peek("mask_head") is not None
        if has_masks:
            align = roi_heads.roi_align(head, "mask_roi_extractor")
            read_mask_head = partial(roi_heads.mask_head, roi_align=align)
            second_stage["mask_head"] = {
                "_target_": "samebox.networks.nets.cascade.AveragedMaskHeads",
                "modules": head.read_list("mask_head", count, read_mask_head),
            }
    return "cascade_mask_rcnn" if has_masks else "cascade_rcnn", rcnn(model, test, second_stage)


def point_rend(model: Section, test: Section) -> tuple[str, dict[str, Any]]:
    """PointRend on Mask R-CNN."""
    # read before `roi_head` takes the section
    subdivision = Section(test.peek("rcnn"), "test_cfg.rcnn", test.diagnostics)
    with model.section("roi_head") as head:
        head.choice("PointRendRoIHead")
        second_stage = roi_head(head, test, "samebox.networks.nets.point_rend.PointRendRoIHead")
        second_stage["bbox_head"] = box_head(head)
        second_stage["mask_head"], second_stage["stride"] = roi_heads.coarse_mask_head(head)
        second_stage["point_head"] = head.read("point_head", roi_heads.point_head)
    second_stage["steps"] = subdivision.integer("subdivision_steps")
    second_stage["points"] = subdivision.integer("subdivision_num_points")
    second_stage["scale"] = subdivision.integer("scale_factor")
    return "point_rend", rcnn(model, test, second_stage)


def rcnn(model: Section, test: Section, second_stage: dict[str, Any]) -> dict[str, Any]:
    """The whole network with its second stage."""
    proposals = model.read("rpn_head", partial(rpn_head, test=test))
    return {
        "_target_": "samebox.networks.nets.rcnn.RCNN",
        **backbone_with_fpn(model),
        "rpn_head": proposals,
        "roi_head": second_stage,
    }


def roi_head(head: Section, test: Section, target: str) -> dict[str, Any]:
    """The second stage without its heads, which must not share any layers."""
    head.expect("shared_head", None)
    return {"_target_": target, **second_stage_settings(test)}


def box_head(head: Section) -> dict[str, Any]:
    """The box head, whose deltas differ by class, with its RoIAlign."""
    align = roi_heads.roi_align(head, "bbox_roi_extractor")
    return head.read("bbox_head", partial(roi_heads.box_head, roi_align=align, class_agnostic=False))
