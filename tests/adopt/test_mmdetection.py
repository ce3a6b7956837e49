import copy
import re

import original_mmdetection as original
import pytest

from samebox.adopt import mmdetection
from samebox.adopt.bases import python_config
from samebox.adopt.literal import Imported, Unread
from samebox.adopt.mmdetection_parts import ssd_sizes
from samebox.adopt.section import Findings, Section
from samebox.core.errors import SameboxError


def config(name, tmp_path, index=0):
    """The merged config of a detector of conf/detector."""
    return python_config(original.write(original.ORIGINALS[name][index], tmp_path))


def changed(names, path, value):
    """`names` with `value` at the dotted `path`, where numbers are indices of lists."""
    names = copy.deepcopy(names)
    *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
    held = names
    for step in steps:
        held = held[step]
    held[last] = value
    return names


RESIZE = "test_dataloader.dataset.pipeline.1"
UNSUPPORTED = [
    ("retinanet_r50_fpn", "model.type", "ATSS", "model.type='ATSS'"),
    ("retinanet_r50_fpn", "model.backbone.type", "SwinTransformer", "model.backbone.type='SwinTransformer'"),
    ("retinanet_r50_fpn", "model.backbone.depth", 152, "model.backbone.depth=152"),
    ("retinanet_r50_fpn", "model.backbone.dcn", {"type": "DCNv2"}, "model.backbone.dcn={'type': 'DCNv2'}"),
    ("retinanet_r50_fpn", "model.backbone.norm_cfg.type", "GN", "model.backbone.norm_cfg.type='GN'"),
    ("retinanet_r50_fpn", "model.backbone.norm_cfg.eps", 0.1, "model.backbone.norm_cfg.eps"),
    ("retinanet_r50_fpn", "model.backbone.plugins", [1], "model.backbone.plugins"),
    ("retinanet_r50_fpn", "model.backbone.novel", 1, "model.backbone.novel"),
    ("retinanet_r50_fpn", "model.neck.type", "PAFPN", "model.neck.type='PAFPN'"),
    ("retinanet_r50_fpn", "model.neck.add_extra_convs", "on_lateral", "add_extra_convs='on_lateral'"),
    ("retinanet_r50_fpn", "model.neck.norm_cfg", {"type": "BN"}, "model.neck.norm_cfg="),
    ("retinanet_r50_fpn", "model.bbox_head.type", "GARetinaHead", "model.bbox_head.type='GARetinaHead'"),
    ("retinanet_r50_fpn", "model.bbox_head.loss_cls.use_sigmoid", False, "loss_cls.use_sigmoid=False"),
    ("retinanet_r50_fpn", "model.bbox_head.anchor_generator.scales", [4, 5], "anchor_generator.scales"),
    ("retinanet_r50_fpn", "model.bbox_head.anchor_generator.center_offset", 0.5, "center_offset=0.5"),
    ("retinanet_r50_fpn", "model.bbox_head.bbox_coder.target_stds", [0.1] * 4, "bbox_coder.target_stds"),
    ("retinanet_r50_fpn", "model.bbox_head.anchor_scales", [8], "model.bbox_head.anchor_scales"),
    ("retinanet_r50_fpn", "model.test_cfg.nms.type", "soft_nms", "test_cfg.nms.type='soft_nms'"),
    ("retinanet_r50_fpn", "model.test_cfg.min_bbox_size", 5, "test_cfg.min_bbox_size=5"),
    ("retinanet_r50_fpn", "model.test_cfg.score_thr", None, "test_cfg.score_thr (not given)"),
    ("retinanet_r50_fpn", "model.data_preprocessor.pad_value", 114, "data_preprocessor.pad_value=114"),
    ("retinanet_r50_fpn", f"{RESIZE}.scale", (1333, 800, 3), "test_pipeline[1].scale"),
    ("retinanet_r50_fpn", f"{RESIZE}.interpolation", "area", "test_pipeline[1].interpolation='area'"),
    ("retinanet_r50_fpn", f"{RESIZE}.type", "Rotate", "test_pipeline[1].type='Rotate'"),
    ("faster_rcnn_r50_fpn", "model.roi_head.bbox_head.type", "DIIHead", "bbox_head.type='DIIHead'"),
    ("faster_rcnn_r50_fpn", "model.roi_head.bbox_head.roi_feat_size", 9, "bbox_head.roi_feat_size=9"),
    ("faster_rcnn_r50_fpn", "model.roi_head.shared_head", {"type": "A"}, "roi_head.shared_head="),
    ("faster_rcnn_r50_fpn", "model.roi_head.bbox_head.loss_cls.type", "SeesawLoss", "'SeesawLoss'"),
    ("faster_rcnn_r50_fpn", "model.test_cfg.rpn.nms_post", 500, "test_cfg.rpn.nms_post"),
    (
        "faster_rcnn_r50_fpn",
        "model.roi_head.bbox_roi_extractor.roi_layer.sampling_ratio",
        2,
        "roi_layer.sampling_ratio=2",
    ),
    ("mask_rcnn_r50_fpn", "model.test_cfg.rcnn.mask_thr_binary", 0.4, "mask_thr_binary=0.4"),
    ("mask_rcnn_r50_fpn", "model.roi_head.mask_head.num_classes", 7, "num_classes: heads with [7, 80]"),
    ("cascade_rcnn_r50_fpn", "model.roi_head.num_stages", 2, "model.roi_head.bbox_head='3 of them'"),
    (
        "cascade_rcnn_r50_fpn",
        "model.roi_head.bbox_head.1.reg_class_agnostic",
        False,
        "bbox_head[1].reg_class_agnostic=False",
    ),
    ("fcos_r50_caffe_fpn_gn_head", "model.bbox_head.norm_on_bbox", True, "bbox_head.norm_on_bbox=True"),
    ("fcos_r50_caffe_fpn_gn_head", "model.bbox_head.norm_cfg", None, "bbox_head.norm_cfg"),
    ("ssd300", "model.neck.last_kernel_size", 4, "model.neck.last_kernel_size=4"),
    ("ssd300", "model.bbox_head.anchor_generator.basesize_ratio_range", [0.3, 0.9], "basesize_ratio_range"),
    ("ssd300", "model.bbox_head.anchor_generator.scale_major", True, "scale_major=True"),
    ("ssdlite_mobilenetv2", "model.backbone.widen_factor", 0.5, "model.backbone.widen_factor=0.5"),
    ("ssdlite_mobilenetv2", "model.backbone.type", "MobileNetV3", "model.backbone.type='MobileNetV3'"),
    ("yolov3_d53_608", "model.backbone.act_cfg", {"type": "Mish"}, "model.backbone.act_cfg="),
    ("yolov3_d53_608", "model.test_cfg.conf_thr", None, "test_cfg.conf_thr (not given)"),
    ("detr_r50", "model.encoder.num_cp", 6, "model.encoder.num_cp"),
    ("detr_r50", "model.positional_encoding.num_feats", 64, "embed_dims: parts with [128, 256]"),
    (
        "detr_r50",
        "model.decoder.layer_cfg.cross_attn_cfg.num_heads",
        4,
        "decoder: attentions with [8, 4] heads",
    ),
    ("solov2_r50_fpn", "model.mask_head.dcn_cfg", {"type": "DCN"}, "model.mask_head.dcn_cfg="),
    ("solov2_r50_fpn", "model.test_cfg.kernel", "linear", "test_cfg.kernel='linear'"),
    ("cornernet_hourglass104", "model.bbox_head.corner_emb_channels", 4, "corner_emb_channels=4"),
    ("cornernet_hourglass104", "test_pipeline.1.test_pad_mode", ["size_divisor", 32], "test_pad_mode="),
    ("cornernet_hourglass104", "test_pipeline", [], "test_pipeline: RandomCenterCropPad=False"),
]


@pytest.mark.parametrize(
    ("name", "path", "value", "message"), UNSUPPORTED, ids=[f"{one[0]} {one[1]}" for one in UNSUPPORTED]
)
def test_what_is_not_supported_is_named(tmp_path, name, path, value, message):
    names = changed(config(name, tmp_path), path, value)
    with pytest.raises(SameboxError) as error:
        mmdetection.adopted(names, "config.py")
    assert str(error.value).startswith("config.py: not supported: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_all_that_is_not_supported_is_named_at_once(tmp_path):
    names = config("retinanet_r50_fpn", tmp_path)
    for path in ("model.backbone.novel", "model.neck.novel", "model.bbox_head.novel", "model.test_cfg.novel"):
        names = changed(names, path, 1)
    named = "model.backbone.novel, model.neck.novel, model.bbox_head.novel, test_cfg.novel"
    with pytest.raises(SameboxError, match=f"^config.py: not supported: {named}; nothing is written$"):
        mmdetection.adopted(names, "config.py")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.train_cfg", {"novel": 1}),
        ("model.backbone.frozen_stages", 4),
        ("model.backbone.init_cfg", Unread("config.py:1", "'f()', which is no data")),
        ("model.bbox_head.loss_bbox", {"type": "NovelLoss"}),
        ("model.data_preprocessor.batch_augments", [1]),
        ("optim_wrapper", {"novel": 1}),
        ("train_dataloader", Unread("config.py:1", "'f()', which is no data")),
    ],
)
def test_what_training_alone_reads_is_of_no_account(tmp_path, path, value):
    names = config("retinanet_r50_fpn", tmp_path)
    expected = mmdetection.adopted(names, "config.py")
    assert mmdetection.adopted(changed(names, path, value), "config.py") == expected


def test_a_value_that_is_no_data_is_told_with_its_place(tmp_path):
    unread = Unread("config.py:7", "'depth()', which is no data")
    names = changed(config("retinanet_r50_fpn", tmp_path), "model.backbone.depth", unread)
    message = r"model\.backbone\.depth='depth\(\)', which is no data at config\.py:7"
    with pytest.raises(SameboxError, match=message):
        mmdetection.adopted(names, "config.py")


@pytest.mark.parametrize(
    "model", [None, {}, 5, Unread("config.py:1", "'f()', which is no data"), {"type": 3}]
)
def test_no_model(model):
    with pytest.raises(SameboxError, match=r"^config\.py: not supported: model") as error:
        mmdetection.adopted({"model": model}, "config.py")
    assert "\n" not in str(error.value)


def told(names):
    """What is said of a config that is refused; None of one that is not."""
    try:
        mmdetection.adopted(names, "config.py")
    except SameboxError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", original.ORIGINALS)
def test_values_of_any_kind_end_in_a_message(tmp_path, name):
    names = config(name, tmp_path)
    for value in (None, "text", [], {}, [None], -1, 2.5, True, Unread("a.py:1", "a call")):
        for section in ("backbone", "neck", "bbox_head", "rpn_head", "roi_head", "mask_head", "test_cfg"):
            held = names["model"].get(section)
            for key in held if isinstance(held, dict) else ():
                other = changed(names, f"model.{section}.{key}", value)
                assert re.fullmatch(r"config\.py.*|None", str(told(other)))  # in one line


def test_names_of_types_may_have_their_package_before_them(tmp_path):
    names = config("retinanet_r50_fpn", tmp_path)
    expected = mmdetection.adopted(names, "config.py")
    names = changed(names, "model.type", "mmdet.models.detectors.RetinaNet")
    names = changed(names, "model.backbone.type", Imported("ResNet"))
    names = changed(names, "model.backbone.norm_cfg.type", Imported("BatchNorm2d"))
    names = changed(names, "model.test_cfg.nms.type", Imported("nms"))
    assert mmdetection.adopted(names, "config.py") == expected


def test_channels_are_in_the_order_that_the_network_sees(tmp_path):
    names = config("retinanet_r50_fpn", tmp_path)
    assert mmdetection.adopted(names, "a").values["normalize"]["channel_order"] == "RGB"
    names = changed(names, "model.data_preprocessor.bgr_to_rgb", False)
    assert mmdetection.adopted(names, "a").values["normalize"]["channel_order"] == "BGR"


def test_the_data_set_to_test_on_goes_before_the_name_of_a_pipeline(tmp_path):
    names = config("retinanet_r50_fpn", tmp_path)
    names = changed(names, f"{RESIZE}.scale", [256, 384])
    assert mmdetection.adopted(names, "a").values["preprocess"]["resize"]["scale"] == [384, 256]
    names = changed(names, "test_dataloader", None)
    names = changed(names, "val_dataloader", None)
    assert mmdetection.adopted(names, "a").values["preprocess"]["resize"]["scale"] == [1333, 800]
    names = changed(names, "test_pipeline", None)
    with pytest.raises(SameboxError, match=r"not supported: test_pipeline \(not given\)"):
        mmdetection.adopted(names, "a")


def test_flipped_images_are_remarked_on(tmp_path):
    found = mmdetection.adopted(config("cornernet_hourglass104", tmp_path, 1), "a")
    assert found.remarks == ("the source tests images flipped as well; here they are not",)


def test_ssd512_has_sizes_of_its_own():
    findings = Findings()
    generator = Section({"input_size": 512, "basesize_ratio_range": [0.1, 0.9]}, "", findings)
    least, most = ssd_sizes(generator, 7)
    assert not findings.unsupported
    assert (least[:3], most[:3]) == ([20, 51, 133], [51, 133, 215])


def test_classes_of_the_second_generation(tmp_path):
    names = config("retinanet_r50_fpn", tmp_path, 1)
    assert mmdetection.adopted(names, "a").class_names is None
    names = changed(names, "data.test.classes", ["a", "b"])
    assert mmdetection.adopted(names, "a").class_names == ("a", "b")


def test_no_class_is_cut_short(tmp_path):
    names = config("retinanet_r50_fpn", tmp_path)
    assert "per_class" not in mmdetection.adopted(names, "a").values["network"]["nms"]
    many = changed(names, "model.test_cfg.max_per_img", 500)
    nms = mmdetection.adopted(many, "a").values["network"]["nms"]
    assert (nms["count"], nms["per_class"]) == (500, 500)


def test_of_a_component_that_is_not_supported_nothing_further_is_said(tmp_path):
    names = config("mask_rcnn_r50_fpn", tmp_path)
    swin = {"type": "SwinTransformer", "embed_dims": 96, "depths": [2, 2, 6, 2]}
    names = changed(names, "model.backbone", swin)
    names = changed(names, "model.roi_head.mask_head.predictor_cfg", {"type": "DCN"})
    message = (
        "^config.py: not supported: model.roi_head.mask_head.predictor_cfg=.*, "
        "model.backbone.type='SwinTransformer'; nothing is written$"
    )
    with pytest.raises(SameboxError, match=message):
        mmdetection.adopted(names, "config.py")


def test_a_part_that_is_missing_is_named_once(tmp_path):
    names = config("faster_rcnn_r50_fpn", tmp_path)
    del names["model"]["roi_head"]
    with pytest.raises(SameboxError, match=r"not supported: model\.roi_head\.type \(not given\); nothing"):
        mmdetection.adopted(names, "config.py")
