import re

import original_mmdetection as original
import pytest
from changes import with_value

from samebox.adopt import mmdetection
from samebox.adopt.configs.python_files import python_config
from samebox.adopt.configs.values import ImportedName, UnreadValue
from samebox.adopt.mmdetection.anchors import ssd_sizes
from samebox.adopt.result import Diagnostics
from samebox.adopt.section import Section
from samebox.core.errors import SameboxError


def config(name, tmp_path, index=0):
    """The merged original config of a detector in conf/detector."""
    return python_config(original.write(original.ORIGINALS[name][index], tmp_path))


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
    ("mask_rcnn_r50_fpn", "model.roi_head.mask_head.num_classes", 7, "num_classes (heads have [7, 80])"),
    (
        "cascade_rcnn_r50_fpn",
        "model.roi_head.num_stages",
        2,
        "roi_head.bbox_head (3 entries instead of 2)",
    ),
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
    ("detr_r50", "model.positional_encoding.num_feats", 64, "embed_dims (parts with [128, 256] channels)"),
    (
        "detr_r50",
        "model.decoder.layer_cfg.cross_attn_cfg.num_heads",
        4,
        "decoder (attentions with [8, 4] heads)",
    ),
    ("solov2_r50_fpn", "model.mask_head.dcn_cfg", {"type": "DCN"}, "model.mask_head.dcn_cfg="),
    ("solov2_r50_fpn", "model.test_cfg.kernel", "linear", "test_cfg.kernel='linear'"),
    ("cornernet_hourglass104", "model.bbox_head.corner_emb_channels", 4, "corner_emb_channels=4"),
    ("cornernet_hourglass104", "test_pipeline.1.test_pad_mode", ["size_divisor", 32], "test_pad_mode="),
    ("cornernet_hourglass104", "test_pipeline", [], "test_pipeline (without RandomCenterCropPad)"),
]


@pytest.mark.parametrize(
    ("name", "path", "value", "message"), UNSUPPORTED, ids=[f"{case[0]} {case[1]}" for case in UNSUPPORTED]
)
def test_unsupported_keys_are_reported(tmp_path, name, path, value, message):
    names = with_value(config(name, tmp_path), path, value)
    with pytest.raises(SameboxError) as error:
        mmdetection.adopt(names, "config.py")
    assert str(error.value).startswith("config.py: not supported: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_all_unsupported_keys_are_reported_at_once(tmp_path):
    names = config("retinanet_r50_fpn", tmp_path)
    for path in ("model.backbone.novel", "model.neck.novel", "model.bbox_head.novel", "model.test_cfg.novel"):
        names = with_value(names, path, 1)
    named = "model.backbone.novel, model.neck.novel, model.bbox_head.novel, test_cfg.novel"
    with pytest.raises(SameboxError, match=f"^config.py: not supported: {named}; nothing is written$"):
        mmdetection.adopt(names, "config.py")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.train_cfg", {"novel": 1}),
        ("model.backbone.frozen_stages", 4),
        ("model.backbone.init_cfg", UnreadValue("config.py:1", "'f()'")),
        ("model.bbox_head.loss_bbox", {"type": "NovelLoss"}),
        ("model.data_preprocessor.batch_augments", [1]),
        ("optim_wrapper", {"novel": 1}),
        ("train_dataloader", UnreadValue("config.py:1", "'f()'")),
    ],
)
def test_training_settings_are_ignored(tmp_path, path, value):
    names = config("retinanet_r50_fpn", tmp_path)
    expected = mmdetection.adopt(names, "config.py")
    assert mmdetection.adopt(with_value(names, path, value), "config.py") == expected


def test_an_unread_value_is_reported_with_its_place(tmp_path):
    unread = UnreadValue("config.py:7", "'depth()'")
    names = with_value(config("retinanet_r50_fpn", tmp_path), "model.backbone.depth", unread)
    message = r"model\.backbone\.depth='depth\(\)' \(not plain data, config\.py:7\)"
    with pytest.raises(SameboxError, match=message):
        mmdetection.adopt(names, "config.py")


@pytest.mark.parametrize("model", [None, {}, 5, UnreadValue("config.py:1", "'f()'"), {"type": 3}])
def test_a_config_without_a_model(model):
    with pytest.raises(SameboxError, match=r"^config\.py: not supported: model") as error:
        mmdetection.adopt({"model": model}, "config.py")
    assert "\n" not in str(error.value)


def error_message(names):
    """The message of the error that adopting raises, or None."""
    try:
        mmdetection.adopt(names, "config.py")
    except SameboxError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", original.ORIGINALS)
def test_values_of_any_type_are_adopted_or_reported(tmp_path, name):
    names = config(name, tmp_path)
    for value in (None, "text", [], {}, [None], -1, 2.5, True, UnreadValue("a.py:1", "a call")):
        for section in ("backbone", "neck", "bbox_head", "rpn_head", "roi_head", "mask_head", "test_cfg"):
            part = names["model"].get(section)
            for key in part if isinstance(part, dict) else ():
                other = with_value(names, f"model.{section}.{key}", value)
                assert re.fullmatch(r"config\.py.*|None", str(error_message(other)))  # one line


def test_types_may_be_imported_or_have_their_package_before_them(tmp_path):
    names = config("retinanet_r50_fpn", tmp_path)
    expected = mmdetection.adopt(names, "config.py")
    names = with_value(names, "model.type", "mmdet.models.detectors.RetinaNet")
    names = with_value(names, "model.backbone.type", ImportedName("ResNet"))
    names = with_value(names, "model.backbone.norm_cfg.type", ImportedName("BatchNorm2d"))
    names = with_value(names, "model.test_cfg.nms.type", ImportedName("nms"))
    assert mmdetection.adopt(names, "config.py") == expected


def test_the_channel_order_is_the_one_that_is_normalized(tmp_path):
    names = config("retinanet_r50_fpn", tmp_path)
    assert mmdetection.adopt(names, "a").values["normalize"]["channel_order"] == "RGB"
    names = with_value(names, "model.data_preprocessor.bgr_to_rgb", False)
    assert mmdetection.adopt(names, "a").values["normalize"]["channel_order"] == "BGR"


def test_the_pipeline_of_the_test_data_set_comes_before_test_pipeline(tmp_path):
    names = config("retinanet_r50_fpn", tmp_path)
    names = with_value(names, f"{RESIZE}.scale", [256, 384])
    assert mmdetection.adopt(names, "a").values["preprocess"]["resize"]["scale"] == [384, 256]
    names = with_value(names, "test_dataloader", None)
    names = with_value(names, "val_dataloader", None)
    assert mmdetection.adopt(names, "a").values["preprocess"]["resize"]["scale"] == [1333, 800]
    names = with_value(names, "test_pipeline", None)
    with pytest.raises(SameboxError, match=r"not supported: test_pipeline \(not given\)"):
        mmdetection.adopt(names, "a")


def test_flipped_images_give_a_remark(tmp_path):
    adopted = mmdetection.adopt(config("cornernet_hourglass104", tmp_path, 1), "a")
    assert adopted.remarks == ("the source also tests flipped images; samebox does not",)


def test_sizes_of_ssd512():
    diagnostics = Diagnostics()
    generator = Section({"input_size": 512, "basesize_ratio_range": [0.1, 0.9]}, "", diagnostics)
    min_sizes, max_sizes = ssd_sizes(generator, 7)
    assert not diagnostics.unsupported
    assert (min_sizes[:3], max_sizes[:3]) == ([20, 51, 133], [51, 133, 215])


def test_class_names_of_mmdetection_2(tmp_path):
    names = config("retinanet_r50_fpn", tmp_path, 1)
    assert mmdetection.adopt(names, "a").class_names is None
    names = with_value(names, "data.test.classes", ["a", "b"])
    assert mmdetection.adopt(names, "a").class_names == ("a", "b")


def test_the_limit_per_class_is_never_below_the_limit_per_image(tmp_path):
    names = config("retinanet_r50_fpn", tmp_path)
    assert "per_class" not in mmdetection.adopt(names, "a").values["network"]["nms"]
    many = with_value(names, "model.test_cfg.max_per_img", 500)
    nms = mmdetection.adopt(many, "a").values["network"]["nms"]
    assert (nms["count"], nms["per_class"]) == (500, 500)


def test_other_keys_of_an_unsupported_component_are_not_reported(tmp_path):
    names = config("mask_rcnn_r50_fpn", tmp_path)
    swin = {"type": "SwinTransformer", "embed_dims": 96, "depths": [2, 2, 6, 2]}
    names = with_value(names, "model.backbone", swin)
    names = with_value(names, "model.roi_head.mask_head.predictor_cfg", {"type": "DCN"})
    message = (
        "^config.py: not supported: model.roi_head.mask_head.predictor_cfg=.*, "
        "model.backbone.type='SwinTransformer'; nothing is written$"
    )
    with pytest.raises(SameboxError, match=message):
        mmdetection.adopt(names, "config.py")


def test_a_missing_part_is_reported_once(tmp_path):
    names = config("faster_rcnn_r50_fpn", tmp_path)
    del names["model"]["roi_head"]
    with pytest.raises(SameboxError, match=r"not supported: model\.roi_head\.type \(not given\); nothing"):
        mmdetection.adopt(names, "config.py")
