"""MMDetection's components, each as this project builds it; absent keys have MMDetection's own defaults."""

from collections.abc import Callable
from typing import Any

from samebox.adopt.section import Section
from samebox.networks.blocks.resnet import DEPTHS

# What training alone reads, in any component
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

NUM_CLASSES = "${detector.num_classes}"
EPS = 1e-5
PER_CLASS = 200


def built(model: Section, key: str, part: Callable[[Section], dict[str, Any]]) -> dict[str, Any]:
    """What `part` makes of the section under `key`."""
    with model.section(key) as section:
        return part(section)


def scored_by(head: Section, sigmoid: bool, *losses: str) -> None:
    """Of the loss of the classes: whether scores are a sigmoid or a softmax. `losses`: those it may be."""
    loss = head.raw("loss_cls")
    if isinstance(loss, dict):
        with Section(loss, f"{head.path}.loss_cls", head.findings, ("*",)) as section:
            section.only("use_sigmoid", sigmoid)
            if losses:
                section.kind(*losses)


def classes(head: Section) -> str:
    """The reference to the detector's number of classes; the head's own number is noted."""
    head.findings.classes.add(head.whole("num_classes", 80))
    return NUM_CLASSES


def batch_norm(section: Section) -> float:
    """What the BatchNorm of `norm_cfg` adds to the variance."""
    if "norm_cfg" not in section:
        return EPS
    with section.section("norm_cfg") as norm:
        norm.kind("BN", "SyncBN", "MMSyncBN", "BatchNorm2d", "SyncBatchNorm")
        norm.skip("requires_grad", "momentum")
        return float(norm.number("eps", EPS))


def plain_batch_norm(section: Section) -> None:
    """A `norm_cfg` that may be absent, or a BatchNorm as PyTorch has it."""
    if batch_norm(section) != EPS:
        section.unsupported("norm_cfg.eps")


def group_norm(section: Section) -> int:
    """The groups of the GroupNorm of `norm_cfg`."""
    if "norm_cfg" not in section:
        return 32
    with section.section("norm_cfg") as norm:
        norm.kind("GN", "GroupNorm")
        norm.only("eps", EPS)
        norm.skip("requires_grad")
        return norm.whole("num_groups")


def without_norm(section: Section) -> None:
    """Convolutions with a bias, no norm and a ReLU, or as the component has it."""
    section.only("norm_cfg", None)
    section.only("conv_cfg", None, {"type": "Conv2d"})


def leaky(section: Section) -> None:
    """The activation of YOLOv3."""
    section.only("act_cfg", {"type": "LeakyReLU", "negative_slope": 0.1})


def resnet(backbone: Section) -> dict[str, Any]:
    """ResNet with BatchNorm."""
    backbone.kind("ResNet")
    depth, width = backbone.whole("depth"), backbone.whole("base_channels", 64)
    if depth and depth not in DEPTHS:
        backbone.unsupported("depth", depth)
    plain_batch_norm(backbone)
    backbone.only("stem_channels", None, width)
    backbone.only("in_channels", 3)
    backbone.only("num_stages", 4)
    backbone.only("strides", (1, 2, 2, 2))
    backbone.only("dilations", (1, 1, 1, 1))
    for name in ("deep_stem", "avg_down"):
        backbone.only(name, False)
    backbone.only("conv_cfg", None)
    backbone.only("dcn", None)
    backbone.skip("stage_with_dcn", "contract_dilation")
    return {
        "_target_": "samebox.networks.blocks.resnet.ResNet",
        "depth": depth,
        "style": backbone.kind("pytorch", "caffe", key="style", default="pytorch"),
        "base_channels": width,
        "out_stages": backbone.wholes("out_indices", (0, 1, 2, 3)),
    }


def vgg(backbone: Section) -> dict[str, Any]:
    """SSD's VGG-16."""
    backbone.kind("SSDVGG")
    backbone.given("depth", 16)
    backbone.only("with_last_pool", False)
    backbone.only("ceil_mode", True)
    backbone.only("out_indices", (3, 4))
    backbone.given("out_feature_indices", (22, 34))
    backbone.skip("input_size")
    return {"_target_": "samebox.networks.blocks.vgg.VGG16"}


def mobilenet(backbone: Section) -> dict[str, Any]:
    """MobileNetV2."""
    backbone.kind("MobileNetV2")
    backbone.only("widen_factor", 1.0)
    backbone.only("conv_cfg", None)
    built: dict[str, Any] = {
        "_target_": "samebox.networks.blocks.mobilenet.MobileNetV2",
        "out_stages": backbone.wholes("out_indices", (1, 2, 4, 7)),
    }
    if "norm_cfg" in backbone:
        built["norm"] = norm_factory(batch_norm(backbone))
    return built | {"activation": activation(backbone, "ReLU6")}


def norm_factory(eps: float) -> dict[str, Any]:
    """What makes BatchNorms."""
    return {"_target_": "torch.nn.BatchNorm2d", "_partial_": True, "eps": eps}


def activation(section: Section, default: str) -> dict[str, Any]:
    """What makes the activations of `act_cfg`."""
    with section.section("act_cfg") as act:
        kind = act.kind("ReLU", "ReLU6", "LeakyReLU", default=default)
        act.skip("inplace")
        slope = {"negative_slope": act.number("negative_slope", 0.01)} if kind == "LeakyReLU" else {}
    return {"_target_": f"torch.nn.{kind}", "_partial_": True, **slope}


def darknet(backbone: Section) -> dict[str, Any]:
    """Darknet-53."""
    backbone.kind("Darknet")
    backbone.only("depth", 53)
    backbone.only("out_indices", (3, 4, 5))
    backbone.only("conv_cfg", None)
    plain_batch_norm(backbone)
    leaky(backbone)
    return {"_target_": "samebox.networks.blocks.darknet.Darknet"}


def fpn(neck: Section, backbone: dict[str, Any]) -> dict[str, Any]:
    """FPN. The stages that it does not look at are taken from `backbone`."""
    neck.kind("FPN")
    channels, start = neck.wholes("in_channels"), neck.whole("start_level", 0)
    backbone["out_stages"] = backbone["out_stages"][start:]
    neck.only("end_level", -1, len(channels) - 1)
    on_input = neck.flag("extra_convs_on_inputs", True)
    extra = neck.raw("add_extra_convs", False)
    if extra is True:
        extra = "on_input" if on_input else "on_output"
    if extra not in (False, "on_input", "on_output"):
        neck.unsupported("add_extra_convs", extra)
    without_norm(neck)
    neck.only("act_cfg", None)
    neck.only("upsample_cfg", {"mode": "nearest"})
    neck.skip("no_norm_on_lateral")
    return {
        "_target_": "samebox.networks.blocks.fpn.FPN",
        "in_channels": channels[start:],
        "out_channels": neck.whole("out_channels"),
        "num_outs": neck.whole("num_outs"),
        "extra_levels": f"conv_{extra}" if extra else "pool",
        "relu_between": neck.flag("relu_before_extra_convs", False) and extra is not False,
    }


def delta_stds(head: Section, default: tuple[float, ...]) -> list[float]:
    """The unit of the deltas of `bbox_coder`."""
    with head.section("bbox_coder") as coder:
        coder.kind("DeltaXYWHBBoxCoder", default="DeltaXYWHBBoxCoder")
        coder.only("target_means", (0, 0, 0, 0))
        coder.only("clip_border", True)
        coder.only("add_ctr_clamp", False)
        coder.skip("ctr_clamp")
        return [float(value) for value in coder.numbers("target_stds", default)]


def plain_deltas(head: Section) -> None:
    """A coder whose unit is 1."""
    stds = delta_stds(head, (1.0, 1.0, 1.0, 1.0))
    if stds != [1.0, 1.0, 1.0, 1.0]:
        head.unsupported("bbox_coder.target_stds", stds)


def anchors(head: Section) -> dict[str, Any]:
    """Anchors with their scales one by one."""
    with head.section("anchor_generator") as generator:
        generator.kind("AnchorGenerator")
        generator.only("scale_major", True)
        generator.only("center_offset", 0, 0.0)
        generator.only("base_sizes", None)
        generator.only("centers", None)
        if "octave_base_scale" in generator:
            base, count = generator.number("octave_base_scale"), generator.whole("scales_per_octave")
            scales = [base * 2 ** (index / count) for index in range(count)]
        else:
            scales = generator.numbers("scales")
        return {
            "_target_": "samebox.networks.blocks.anchors.Anchors",
            "strides": generator.wholes("strides"),
            "ratios": [float(ratio) for ratio in generator.numbers("ratios")],
            "scales": scales,
        }


def octave_anchors(head: Section) -> dict[str, Any]:
    """Anchors whose scales divide an octave."""
    built = anchors(head)
    scales = built["scales"] or [1]
    octave = {"base": scales[0], "count": len(scales)}
    if scales != [octave["base"] * 2 ** (index / len(scales)) for index in range(len(scales))]:
        head.unsupported("anchor_generator.scales", scales)
    return built | {"scales": {"_target_": "samebox.networks.blocks.anchors.octave_scales", **octave}}


def towers(head: Section) -> dict[str, Any]:
    """What heads with towers of convolutions have in common."""
    return {
        "in_channels": head.whole("in_channels"),
        "channels": head.whole("feat_channels", 256),
        "convs": head.whole("stacked_convs", 4),
        "num_classes": classes(head),
    }


def retina_head(head: Section) -> dict[str, Any]:
    """RetinaHead."""
    head.kind("RetinaHead")
    scored_by(head, True)
    without_norm(head)
    plain_deltas(head)
    built = {"_target_": "samebox.networks.nets.retinanet.RetinaHead", **towers(head)}
    return built | {"anchors": octave_anchors(head)}


def fsaf_head(head: Section) -> dict[str, Any]:
    """FSAFHead."""
    head.kind("FSAFHead")
    scored_by(head, True)
    without_norm(head)
    head.only("score_threshold", None)
    built = {
        "_target_": "samebox.networks.nets.fsaf.FSAFHead",
        **towers(head),
        "anchors": octave_anchors(head),
    }
    with head.section("bbox_coder") as coder:
        coder.kind("TBLRBBoxCoder")
        coder.only("clip_border", True)
        return built | {"normalizer": float(coder.number("normalizer", 4.0))}


def fcos_head(head: Section) -> dict[str, Any]:
    """FCOSHead with GroupNorm."""
    head.kind("FCOSHead")
    scored_by(head, True)
    groups = group_norm(head)
    head.only("conv_cfg", None)
    head.only("conv_bias", "auto", False)
    for name in ("norm_on_bbox", "centerness_on_reg", "dcn_on_last_conv"):
        head.only(name, False)
    head.only("bbox_coder", None, {"type": "DistancePointBBoxCoder"})
    head.skip("regress_ranges", "center_sampling", "center_sample_radius")
    strides = head.wholes("strides", (4, 8, 16, 32, 64))
    points = {"_target_": "samebox.networks.blocks.anchors.Points", "strides": strides}
    built = {"_target_": "samebox.networks.nets.fcos.FCOSHead", **towers(head)}
    return built | {"norm_groups": groups, "points": points}


# SSDAnchorGenerator's sizes of the finest level, in percent: by input size and the least ratio
FIRST_SIZES = {(300, 0.15): (7, 15), (300, 0.2): (10, 20), (512, 0.1): (4, 10), (512, 0.15): (7, 15)}


def ssd_anchors(head: Section) -> dict[str, Any]:
    """SSDAnchorGenerator, with its sizes given or in shares of the input."""
    with head.section("anchor_generator") as generator:
        generator.kind("SSDAnchorGenerator")
        generator.given("scale_major", False)
        generator.only("centers", None)
        strides = generator.wholes("strides")
        if "min_sizes" in generator:
            least, most = generator.numbers("min_sizes"), generator.numbers("max_sizes")
            generator.skip("input_size", "basesize_ratio_range")
        else:
            least, most = ssd_sizes(generator, len(strides))
        sides = {"min_sizes": least, "max_sizes": most, "ratios": generator.nested("ratios")}
        return {
            "_target_": "samebox.networks.blocks.anchors.SizedAnchors",
            "strides": strides,
            "sides": {"_target_": "samebox.networks.blocks.anchors.ssd_sides", **sides},
        }


def ssd_sizes(generator: Section, levels: int) -> tuple[list[int], list[int]]:
    """The least and the largest sizes of each level, in pixels, as SSDAnchorGenerator has them."""
    size, shares = generator.whole("input_size", 300), generator.numbers("basesize_ratio_range", (0.15, 0.9))
    first = FIRST_SIZES.get((size, shares[0])) if len(shares) == 2 else None
    if first is None or levels < 3:
        generator.unsupported("basesize_ratio_range", shares)
        return [], []
    low, high = (int(share * 100) for share in shares)
    step = (high - low) // (levels - 2)
    percents = [first, *((percent, percent + step) for percent in range(low, high + 1, step))]
    least, most = ([int(size * percent / 100) for percent in side] for side in zip(*percents, strict=True))
    return least, most


def ssd_convolutions(section: Section) -> dict[str, Any]:
    """The norm and the activation of SSDLite's depthwise separable convolutions, or none of a norm."""
    section.only("conv_cfg", None)
    if not section.flag("use_depthwise", False):
        section.only("norm_cfg", None)
        section.only("act_cfg", {"type": "ReLU"})
        return {"norm": None}
    return {"norm": norm_factory(batch_norm(section)), "activation": activation(section, "ReLU")}


def ssd_neck(neck: Section) -> dict[str, Any]:
    """SSDNeck."""
    neck.kind("SSDNeck")
    inputs, outputs = neck.wholes("in_channels"), neck.wholes("out_channels")
    if outputs[: len(inputs)] != inputs:
        neck.unsupported("out_channels", outputs)
    neck.only("last_kernel_size", 3)
    scale = neck.raw("l2_norm_scale", 20)  # where training starts from
    norm = {"_target_": "samebox.networks.blocks.vgg.L2Norm", "channels": inputs[0] if inputs else 0}
    return {
        "_target_": "samebox.networks.nets.ssd.SSDNeck",
        "in_channels": inputs,
        "extra_channels": outputs[len(inputs) :],
        "strides": neck.wholes("level_strides"),
        "paddings": neck.wholes("level_paddings"),
        "l2_norm": None if scale is None else norm,
        **ssd_convolutions(neck),
    }


def ssd_head(head: Section) -> dict[str, Any]:
    """SSDHead."""
    head.kind("SSDHead")
    head.only("stacked_convs", 0)
    head.skip("feat_channels")
    return {
        "_target_": "samebox.networks.nets.ssd.SSDHead",
        "in_channels": head.wholes("in_channels"),
        "num_classes": classes(head),
        "anchors": ssd_anchors(head),
        "stds": delta_stds(head, (1.0, 1.0, 1.0, 1.0)),
        **ssd_convolutions(head),
    }


def yolo_neck(neck: Section) -> dict[str, Any]:
    """YOLOV3Neck."""
    neck.kind("YOLOV3Neck")
    neck.only("conv_cfg", None)
    plain_batch_norm(neck)
    leaky(neck)
    inputs, outputs = neck.wholes("in_channels"), neck.wholes("out_channels")
    neck.given("num_scales", len(inputs))
    return {
        "_target_": "samebox.networks.nets.yolov3.YOLOv3Neck",
        "in_channels": inputs,
        "out_channels": outputs,
    }


def yolo_head(head: Section) -> dict[str, Any]:
    """YOLOV3Head."""
    head.kind("YOLOV3Head")
    head.only("conv_cfg", None)
    plain_batch_norm(head)
    leaky(head)
    head.only("bbox_coder", {"type": "YOLOBBoxCoder"})
    head.skip("one_hot_smoother")
    with head.section("anchor_generator") as generator:
        generator.kind("YOLOAnchorGenerator")
        strides, sides = generator.wholes("strides"), generator.nested("base_sizes")
    head.only("featmap_strides", strides, default=[32, 16, 8])
    return {
        "_target_": "samebox.networks.nets.yolov3.YOLOv3Head",
        "in_channels": head.wholes("in_channels"),
        "out_channels": head.wholes("out_channels", (1024, 512, 256)),
        "num_classes": classes(head),
        "anchors": {
            "_target_": "samebox.networks.blocks.anchors.SizedAnchors",
            "strides": strides,
            "sides": sides,
        },
    }


def rpn_head(head: Section, test: Section) -> dict[str, Any]:
    """RPNHead with what `test_cfg.rpn` says of proposals."""
    head.kind("RPNHead")
    scored_by(head, True)
    head.only("num_convs", 1)
    head.only("num_classes", 1)
    plain_deltas(head)
    with test.section("rpn") as limits:
        limits.only("nms_across_levels", False)
        limits.only("min_bbox_size", 0, -1)
        count = limits.whole("max_per_img" if "max_per_img" in limits else "max_num")
        if limits.whole("nms_post", count) < count:
            limits.unsupported("nms_post")
        iou = limits.number("nms_thr") if "nms_thr" in limits else greedy_nms(limits)
        nms_pre = limits.whole("nms_pre")
    return {
        "_target_": "samebox.networks.nets.rpn.RPNHead",
        "in_channels": head.whole("in_channels"),
        "channels": head.whole("feat_channels", 256),
        "anchors": anchors(head),
        "nms": {"_target_": "samebox.networks.blocks.nms.GreedyNMS", "iou_threshold": iou, "count": count},
        "nms_pre": nms_pre,
    }


def greedy_nms(test: Section) -> float:
    """The IoU threshold of `nms`."""
    with test.section("nms") as nms:
        nms.kind("nms")
        nms.only("class_agnostic", False)
        nms.skip("split_thr")
        return float(nms.number("iou_threshold" if "iou_threshold" in nms else "iou_thr"))


def final_nms(test: Section) -> dict[str, Any]:
    """The NMS that gives the detections."""
    iou, count = greedy_nms(test), test.whole("max_per_img")
    nms = {"_target_": "samebox.networks.blocks.nms.GreedyNMS", "iou_threshold": iou, "count": count}
    # families keep that many of a class, which is of no account where there are no more in all
    return nms | ({"per_class": count} if count > PER_CLASS else {})


def dense_limits(test: Section) -> dict[str, Any]:
    """What `test_cfg` says of a detector of one stage."""
    test.only("min_bbox_size", 0, -1)
    return {
        "nms": final_nms(test),
        "nms_pre": test.whole("nms_pre"),
        "score_threshold": float(test.number("score_thr")),
    }


def roi_align(roi_head: Section, key: str) -> dict[str, Any]:
    """RoIAlign of the extractor under `key`."""
    with roi_head.section(key) as extractor:
        extractor.kind("SingleRoIExtractor")
        extractor.only("finest_scale", 56)
        extractor.skip("out_channels")
        with extractor.section("roi_layer") as layer:
            layer.kind("RoIAlign")
            layer.only("sample_num" if "sample_num" in layer else "sampling_ratio", 0)
            layer.only("pool_mode", "avg")
            layer.only("aligned", True)
            size = layer.whole("out_size" if "out_size" in layer else "output_size")
        strides = extractor.wholes("featmap_strides")
    return {"_target_": "samebox.networks.blocks.roi_align.RoIAlign", "_args_": [size, strides]}


def bbox_head(head: Section, align: dict[str, Any], agnostic: bool) -> dict[str, Any]:
    """Shared2FCBBoxHead."""
    head.kind("Shared2FCBBoxHead")
    scored_by(head, False, "CrossEntropyLoss")
    without_norm(head)
    size = align["_args_"][0]
    head.only("roi_feat_size", size, [size, size], default=7)
    head.only("reg_class_agnostic", agnostic)
    head.only("with_avg_pool", False)
    for name in ("reg_predictor_cfg", "cls_predictor_cfg"):
        head.only(name, {"type": "Linear"})
    head.skip("conv_out_channels")
    return {
        "_target_": "samebox.networks.nets.rcnn.BoxHead",
        "roi_align": align,
        "in_channels": head.whole("in_channels", 256),
        "channels": head.whole("fc_out_channels", 1024),
        "num_classes": classes(head),
        "stds": delta_stds(head, (0.1, 0.1, 0.2, 0.2)),
        "class_agnostic": agnostic,
    }


def mask_head(head: Section, align: dict[str, Any]) -> dict[str, Any]:
    """FCNMaskHead."""
    head.kind("FCNMaskHead")
    without_norm(head)
    head.only("conv_kernel_size", 3)
    head.only("class_agnostic", False)
    head.only("upsample_cfg", {"type": "deconv", "scale_factor": 2})
    head.only("predictor_cfg", {"type": "Conv"})
    head.skip("roi_feat_size")
    return {
        "_target_": "samebox.networks.nets.rcnn.FCNMaskHead",
        "roi_align": align,
        "in_channels": head.whole("in_channels", 256),
        "channels": head.whole("conv_out_channels", 256),
        "convs": head.whole("num_convs", 4),
        "num_classes": classes(head),
    }


def coarse_mask_head(roi_head: Section) -> tuple[dict[str, Any], int]:
    """CoarseMaskHead, and the stride of the level that it looks at."""
    with roi_head.section("mask_roi_extractor") as extractor:
        extractor.kind("GenericRoIExtractor")
        extractor.only("aggregation", "concat", "sum")  # of a single level
        extractor.skip("out_channels")
        with extractor.section("roi_layer") as layer:
            layer.kind("SimpleRoIAlign")
            side = layer.whole("output_size")
        strides = extractor.wholes("featmap_strides")
        if len(strides) != 1:
            extractor.unsupported("featmap_strides", strides)
    with roi_head.section("mask_head") as head:
        head.kind("CoarseMaskHead")
        without_norm(head)
        head.only("num_convs", 0)
        head.only("downsample_factor", 2)
        head.skip("roi_feat_size")
        built = {
            "_target_": "samebox.networks.nets.point_rend.CoarseMaskHead",
            "side": side,
            "in_channels": head.whole("in_channels", 256),
            "channels": head.whole("conv_out_channels", 256),
            "fcs": head.whole("num_fcs", 2),
            "fc_channels": head.whole("fc_out_channels", 1024),
            "num_classes": classes(head),
        }
    return built, strides[0] if strides else 0


def point_head(head: Section) -> dict[str, Any]:
    """MaskPointHead."""
    head.kind("MaskPointHead")
    head.only("coarse_pred_each_layer", True)
    head.only("class_agnostic", False)
    head.only("norm_cfg", None)
    head.only("conv_cfg", {"type": "Conv1d"})
    head.only("act_cfg", {"type": "ReLU"})
    return {
        "_target_": "samebox.networks.nets.point_rend.PointHead",
        "in_channels": head.whole("in_channels", 256),
        "channels": head.whole("fc_channels", 256),
        "fcs": head.whole("num_fcs", 3),
        "num_classes": classes(head),
    }


def solo_head(head: Section) -> dict[str, Any]:
    """SOLOV2Head."""
    head.kind("SOLOV2Head")
    scored_by(head, True)
    groups = group_norm(head)
    head.only("cls_down_index", 0)
    head.only("dynamic_conv_size", 1)
    head.only("conv_cfg", None)
    head.only("dcn_cfg", None)
    head.skip("dcn_apply_to_all_conv", "scale_ranges", "pos_scale")
    built = {"_target_": "samebox.networks.nets.solov2.SOLOv2Head", **towers(head)}
    return built | {
        "grids": head.wholes("num_grids"),
        "norm_groups": groups,
        "mask_feature_head": mask_feature_head(head, built["in_channels"]),
    }


def mask_feature_head(head: Section, in_channels: int) -> dict[str, Any]:
    """MaskFeatModule of SOLOv2."""
    with head.section("mask_feature_head") as features:
        features.only("start_level", 0)
        features.only("mask_stride", 4)
        features.only("conv_cfg", None)
        features.only("act_cfg", {"type": "ReLU"})
        return {
            "_target_": "samebox.networks.nets.solov2.MaskFeatureHead",
            "in_channels": in_channels,
            "channels": features.whole("feat_channels"),
            "out_channels": features.whole("out_channels"),
            "levels": features.whole("end_level") + 1,
            "norm_groups": group_norm(features),
        }


def hourglass(backbone: Section) -> dict[str, Any]:
    """HourglassNet."""
    backbone.kind("HourglassNet")
    plain_batch_norm(backbone)
    channels = backbone.wholes("stage_channels", (256, 256, 384, 384, 384, 512))
    backbone.only("downsample_times", len(channels) - 1, default=5)
    if len(channels) < 2 or backbone.whole("feat_channel", 256) != channels[0]:
        backbone.unsupported("feat_channel")
    return {
        "_target_": "samebox.networks.blocks.hourglass.HourglassNet",
        "stacks": backbone.whole("num_stacks", 2),
        "channels": channels,
        "counts": backbone.wholes("stage_blocks", (2, 2, 2, 2, 2, 4)),
    }


def corner_head(head: Section, stacks: int) -> dict[str, Any]:
    """CornerHead, one a stack of the backbone."""
    head.kind("CornerHead")
    head.only("num_feat_levels", stacks, default=2)
    head.only("corner_emb_channels", 1)
    return {
        "_target_": "samebox.networks.nets.cornernet.CornerHead",
        "channels": head.whole("in_channels"),
        "branch_channels": 128,
        "num_classes": classes(head),
    }
