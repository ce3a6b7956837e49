"""MMDetection's configs of the detectors in conf/detector, rewritten for tests.

Each is a set of files, {path: {name: value}}, and the first file is the one to adopt. They contain what
MMDetection's files contain, training settings included, and are based on one another in the same way.
"""

from typing import Any

RGB = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
CAFFE = {"mean": [103.53, 116.28, 123.675], "std": [1.0, 1.0, 1.0]}
FOCAL = {"type": "FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25, "loss_weight": 1.0}
SOFTMAX = {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0}
SIGMOID = {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0}
L1 = {"type": "L1Loss", "loss_weight": 1.0}
NO_MEANS = [0.0, 0.0, 0.0, 0.0]
UNIT = {"type": "DeltaXYWHBBoxCoder", "target_means": NO_MEANS, "target_stds": [1.0, 1.0, 1.0, 1.0]}
ASSIGNER = {"type": "MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.4, "min_pos_iou": 0}


def preprocessor(norm: dict[str, Any] = RGB, rgb: bool = True, **more: Any) -> dict[str, Any]:
    return {"type": "DetDataPreprocessor", **norm, "bgr_to_rgb": rgb, **more}


def resnet(**more: Any) -> dict[str, Any]:
    return {
        "type": "ResNet",
        "depth": 50,
        "num_stages": 4,
        "out_indices": (0, 1, 2, 3),
        "frozen_stages": 1,
        "norm_cfg": {"type": "BN", "requires_grad": True},
        "norm_eval": True,
        "style": "pytorch",
        "init_cfg": {"type": "Pretrained", "checkpoint": "torchvision://resnet50"},
        **more,
    }


def fpn(**more: Any) -> dict[str, Any]:
    widths = [256, 512, 1024, 2048]
    return {"type": "FPN", "in_channels": widths, "out_channels": 256, "num_outs": 5, **more}


def limits(iou: float = 0.5, score: float = 0.05, count: int = 100, **more: Any) -> dict[str, Any]:
    nms = {"type": "nms", "iou_threshold": iou}
    return {"nms_pre": 1000, "min_bbox_size": 0, "score_thr": score, "nms": nms, "max_per_img": count, **more}


def data_3(scale: tuple[int, int] = (1333, 800), keep_ratio: bool = True) -> dict[str, Any]:
    """The data settings of MMDetection 3."""
    steps = [
        {"type": "LoadImageFromFile", "backend_args": None},
        {"type": "Resize", "scale": scale, "keep_ratio": keep_ratio},
        {"type": "LoadAnnotations", "with_bbox": True},
        {"type": "PackDetInputs", "meta_keys": ("img_id", "img_path", "ori_shape", "img_shape")},
    ]
    dataset = {"type": "CocoDataset", "data_root": "data/coco/", "test_mode": True, "pipeline": steps}
    loader = {"batch_size": 1, "num_workers": 2, "dataset": dataset}
    return {"test_pipeline": steps, "val_dataloader": loader, "test_dataloader": loader}


def data_2(
    norm: dict[str, Any] = RGB,
    scale: tuple[int, int] = (1333, 800),
    keep_ratio: bool = True,
    rgb: bool = True,
    divisor: int | None = 32,
) -> dict[str, Any]:
    """The data settings of MMDetection 2."""
    steps = [{"type": "Resize", "keep_ratio": keep_ratio}, {"type": "RandomFlip"}]
    steps += [{"type": "Normalize", **norm, "to_rgb": rgb}]
    steps += [{"type": "Pad", "size_divisor": divisor}] if divisor else []
    steps += [{"type": "ImageToTensor", "keys": ["img"]}, {"type": "Collect", "keys": ["img"]}]
    flips = {"type": "MultiScaleFlipAug", "img_scale": scale, "flip": False, "transforms": steps}
    pipeline = [{"type": "LoadImageFromFile"}, flips]
    dataset = {"type": "CocoDataset", "ann_file": "annotations/instances_val2017.json", "pipeline": pipeline}
    return {"data": {"samples_per_gpu": 2, "workers_per_gpu": 2, "val": dataset, "test": dataset}}


COMMON = {"_base_/data.py": data_3(), "_base_/data_2.py": data_2()}


def files(path: str, own: dict[str, Any], *bases: str, **others: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The file `own` at `path`, based on the files `bases`; `others` are further files."""
    based = {"_base_": list(bases)} if len(bases) != 1 else {"_base_": bases[0]}
    return {path: (based if bases else {}) | own, **COMMON, **others}


def derived(base: dict[str, Any], path: str, own: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The file `own` at `path`, based on the first of the files `base`."""
    return {path: {"_base_": f"../{next(iter(base))}", **own}, **base}


RETINA_HEAD = {
    "type": "RetinaHead",
    "num_classes": 80,
    "in_channels": 256,
    "stacked_convs": 4,
    "feat_channels": 256,
    "anchor_generator": {
        "type": "AnchorGenerator",
        "octave_base_scale": 4,
        "scales_per_octave": 3,
        "ratios": [0.5, 1.0, 2.0],
        "strides": [8, 16, 32, 64, 128],
    },
    "bbox_coder": UNIT,
    "loss_cls": FOCAL,
    "loss_bbox": L1,
}
RETINANET = {
    "type": "RetinaNet",
    "backbone": resnet(),
    "neck": fpn(start_level=1, add_extra_convs="on_input"),
    "bbox_head": RETINA_HEAD,
    "train_cfg": {"assigner": ASSIGNER, "allowed_border": -1, "pos_weight": -1, "debug": False},
    "test_cfg": limits(),
}
RETINANET_R50 = files(
    "retinanet/r50.py",
    {"model": RETINANET | {"data_preprocessor": preprocessor(pad_size_divisor=32)}},
    "../_base_/data.py",
)
RETINANET_2 = files(
    "retinanet/r50_2.py",
    {
        "model": {
            **RETINANET,
            "pretrained": "torchvision://resnet50",
            "neck": fpn(start_level=1, add_extra_convs=True),
            "train_cfg": None,
            "test_cfg": None,
        },
        "train_cfg": {"assigner": ASSIGNER},
        "test_cfg": limits() | {"nms": {"type": "nms", "iou_thr": 0.5}},
    },
    "../_base_/data_2.py",
)
FSAF_HEAD = {
    "type": "FSAFHead",
    "reg_decoded_bbox": True,
    "anchor_generator": {"octave_base_scale": 1, "scales_per_octave": 1, "ratios": [1.0]},
    "bbox_coder": {"_delete_": True, "type": "TBLRBBoxCoder", "normalizer": 4.0},
    "loss_cls": {"reduction": "none"},
    "loss_bbox": {"_delete_": True, "type": "IoULoss", "eps": 1e-6, "loss_weight": 1.0},
}

FCOS = {
    "type": "FCOS",
    "backbone": resnet(style="caffe", norm_cfg={"type": "BN", "requires_grad": False}),
    "neck": fpn(start_level=1, add_extra_convs="on_output", relu_before_extra_convs=True),
    "bbox_head": {
        "type": "FCOSHead",
        "num_classes": 80,
        "in_channels": 256,
        "stacked_convs": 4,
        "feat_channels": 256,
        "strides": [8, 16, 32, 64, 128],
        "loss_cls": FOCAL,
        "loss_bbox": {"type": "IoULoss", "loss_weight": 1.0},
        "loss_centerness": SIGMOID,
    },
    "test_cfg": limits(),
}
FCOS_NORM = {"mean": [102.9801, 115.9465, 122.7717], "std": [1.0, 1.0, 1.0]}

RPN_HEAD = {
    "type": "RPNHead",
    "in_channels": 256,
    "feat_channels": 256,
    "anchor_generator": {
        "type": "AnchorGenerator",
        "scales": [8],
        "ratios": [0.5, 1.0, 2.0],
        "strides": [4, 8, 16, 32, 64],
    },
    "bbox_coder": UNIT,
    "loss_cls": SIGMOID,
    "loss_bbox": L1,
}


def extractor(side: int, **layer: Any) -> dict[str, Any]:
    layer = layer or {"type": "RoIAlign", "output_size": side, "sampling_ratio": 0}
    strides = [4, 8, 16, 32]
    return {
        "type": "SingleRoIExtractor",
        "roi_layer": layer,
        "out_channels": 256,
        "featmap_strides": strides,
    }


def box_head(stds: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2), agnostic: bool = False) -> dict[str, Any]:
    return {
        "type": "Shared2FCBBoxHead",
        "in_channels": 256,
        "fc_out_channels": 1024,
        "roi_feat_size": 7,
        "num_classes": 80,
        "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_means": NO_MEANS, "target_stds": stds},
        "reg_class_agnostic": agnostic,
        "loss_cls": SOFTMAX,
        "loss_bbox": L1,
    }


MASKS = {
    "mask_roi_extractor": extractor(14),
    "mask_head": {
        "type": "FCNMaskHead",
        "num_convs": 4,
        "in_channels": 256,
        "conv_out_channels": 256,
        "num_classes": 80,
        "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True, "loss_weight": 1.0},
    },
}
FASTER_HEAD = {"type": "StandardRoIHead", "bbox_roi_extractor": extractor(7), "bbox_head": box_head()}
CASCADE_STDS = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))
CASCADE_HEAD = {
    "type": "CascadeRoIHead",
    "num_stages": 3,
    "stage_loss_weights": [1, 0.5, 0.25],
    "bbox_roi_extractor": extractor(7),
    "bbox_head": [box_head(stds, agnostic=True) for stds in CASCADE_STDS],
}


def rcnn(kind: str, roi_head: dict[str, Any], **more: Any) -> dict[str, Any]:
    second_stage = limits()
    del second_stage["nms_pre"], second_stage["min_bbox_size"]
    proposals = {
        "nms_pre": 1000,
        "max_per_img": 1000,
        "nms": {"type": "nms", "iou_threshold": 0.7},
        "min_bbox_size": 0,
    }
    masks = {"mask_thr_binary": 0.5} if "mask_head" in roi_head else {}
    return {
        "type": kind,
        "data_preprocessor": preprocessor(pad_size_divisor=32, pad_mask=True),
        "backbone": resnet(),
        "neck": fpn(),
        "rpn_head": RPN_HEAD,
        "roi_head": roi_head,
        "train_cfg": {"rpn": {"assigner": ASSIGNER}, "rpn_proposal": {"nms_pre": 2000}},
        "test_cfg": {"rpn": proposals, "rcnn": second_stage | masks},
        **more,
    }


def rcnn_files(path: str, kind: str, roi_head: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return files(
        f"{path}/r50.py",
        {},
        "../_base_/model.py",
        "../_base_/data.py",
        **{"_base_/model.py": {"model": rcnn(kind, roi_head)}},
    )


FASTER = rcnn_files("faster_rcnn", "FasterRCNN", FASTER_HEAD)
MASK = rcnn_files("mask_rcnn", "MaskRCNN", FASTER_HEAD | MASKS)
# as in the first releases of MMDetection 2
FASTER_2 = files(
    "faster_rcnn/r50_2.py",
    {
        "model": {
            "type": "FasterRCNN",
            "pretrained": "torchvision://resnet50",
            "backbone": resnet(),
            "neck": fpn(),
            "rpn_head": RPN_HEAD,
            "roi_head": FASTER_HEAD
            | {"bbox_roi_extractor": extractor(7, type="RoIAlign", out_size=7, sample_num=0)},
        },
        "test_cfg": {
            "rpn": {
                "nms_across_levels": False,
                "nms_pre": 1000,
                "nms_post": 1000,
                "max_num": 1000,
                "nms_thr": 0.7,
                "min_bbox_size": 0,
            },
            "rcnn": {"score_thr": 0.05, "nms": {"type": "nms", "iou_thr": 0.5}, "max_per_img": 100},
        },
    },
    "../_base_/data_2.py",
)
CAFFE_MODEL = {
    "data_preprocessor": preprocessor(CAFFE, rgb=False),
    "backbone": {"norm_cfg": {"requires_grad": False}, "norm_eval": True, "style": "caffe"},
}
POINT_REND = {
    "type": "PointRend",
    "roi_head": {
        "type": "PointRendRoIHead",
        "mask_roi_extractor": {
            "type": "GenericRoIExtractor",
            "aggregation": "concat",
            "roi_layer": {"_delete_": True, "type": "SimpleRoIAlign", "output_size": 14},
            "out_channels": 256,
            "featmap_strides": [4],
        },
        "mask_head": {
            "_delete_": True,
            "type": "CoarseMaskHead",
            "num_fcs": 2,
            "in_channels": 256,
            "conv_out_channels": 256,
            "fc_out_channels": 1024,
            "num_classes": 80,
            "loss_mask": SIGMOID,
        },
        "point_head": {
            "type": "MaskPointHead",
            "num_fcs": 3,
            "in_channels": 256,
            "fc_channels": 256,
            "num_classes": 80,
            "coarse_pred_each_layer": True,
            "loss_point": SIGMOID,
        },
    },
    "train_cfg": {"rcnn": {"mask_size": 7, "num_points": 196, "oversample_ratio": 3}},
    "test_cfg": {
        "rcnn": {"subdivision_steps": 5, "subdivision_num_points": 784, "scale_factor": 2},
    },
}

SSD_CODER = {"type": "DeltaXYWHBBoxCoder", "target_means": NO_MEANS, "target_stds": [0.1, 0.1, 0.2, 0.2]}
SSD_TRAINING = {"assigner": ASSIGNER, "smoothl1_beta": 1.0, "neg_pos_ratio": 3}
SSD300 = {
    "type": "SingleStageDetector",
    "backbone": {
        "type": "SSDVGG",
        "depth": 16,
        "with_last_pool": False,
        "ceil_mode": True,
        "out_indices": (3, 4),
        "out_feature_indices": (22, 34),
        "init_cfg": {"type": "Pretrained", "checkpoint": "open-mmlab://vgg16_caffe"},
    },
    "neck": {
        "type": "SSDNeck",
        "in_channels": (512, 1024),
        "out_channels": (512, 1024, 512, 256, 256, 256),
        "level_strides": (2, 2, 1, 1),
        "level_paddings": (1, 1, 0, 0),
        "l2_norm_scale": 20,
    },
    "bbox_head": {
        "type": "SSDHead",
        "in_channels": (512, 1024, 512, 256, 256, 256),
        "num_classes": 80,
        "anchor_generator": {
            "type": "SSDAnchorGenerator",
            "scale_major": False,
            "input_size": 300,
            "basesize_ratio_range": (0.15, 0.9),
            "strides": [8, 16, 32, 64, 100, 300],
            "ratios": [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
        },
        "bbox_coder": SSD_CODER,
    },
    "train_cfg": SSD_TRAINING,
    "test_cfg": limits(0.45, 0.02, 200),
}
SSD_NORM = {"mean": RGB["mean"], "std": [1, 1, 1]}
LITE = {"norm_cfg": {"type": "BN", "eps": 0.001, "momentum": 0.03}, "init_cfg": {"type": "TruncNormal"}}
LITE_CONVS = {**LITE, "use_depthwise": True, "act_cfg": {"type": "ReLU6"}}
SSDLITE = {
    "type": "SingleStageDetector",
    "data_preprocessor": preprocessor(pad_size_divisor=1),
    "backbone": {"type": "MobileNetV2", "out_indices": (4, 7), **LITE},
    "neck": {
        "type": "SSDNeck",
        "in_channels": (96, 1280),
        "out_channels": (96, 1280, 512, 256, 256, 128),
        "level_strides": (2, 2, 2, 2),
        "level_paddings": (1, 1, 1, 1),
        "l2_norm_scale": None,
        **LITE_CONVS,
    },
    "bbox_head": {
        "type": "SSDHead",
        "in_channels": (96, 1280, 512, 256, 256, 128),
        "num_classes": 80,
        **LITE_CONVS,
        "anchor_generator": {
            "type": "SSDAnchorGenerator",
            "scale_major": False,
            "strides": [16, 32, 64, 107, 160, 320],
            "ratios": [[2, 3]] * 6,
            "min_sizes": [48, 100, 150, 202, 253, 304],
            "max_sizes": [100, 150, 202, 253, 304, 320],
        },
        "bbox_coder": SSD_CODER,
    },
    "train_cfg": SSD_TRAINING,
    "test_cfg": limits(0.45, 0.02, 200),
}


def yolo(backbone: dict[str, Any], inputs: list[int], outputs: list[int], heads: list[int]) -> dict[str, Any]:
    sides = [
        [(116, 90), (156, 198), (373, 326)],
        [(30, 61), (62, 45), (59, 119)],
        [(10, 13), (16, 30), (33, 23)],
    ]
    return {
        "type": "YOLOV3",
        "backbone": backbone,
        "neck": {"type": "YOLOV3Neck", "num_scales": 3, "in_channels": inputs, "out_channels": outputs},
        "bbox_head": {
            "type": "YOLOV3Head",
            "num_classes": 80,
            "in_channels": outputs,
            "out_channels": heads,
            "anchor_generator": {
                "type": "YOLOAnchorGenerator",
                "base_sizes": sides,
                "strides": [32, 16, 8],
            },
            "bbox_coder": {"type": "YOLOBBoxCoder"},
            "featmap_strides": [32, 16, 8],
            **{f"loss_{part}": SIGMOID for part in ("cls", "conf", "xy", "wh")},
        },
        "train_cfg": {"assigner": {"type": "GridAssigner", "pos_iou_thr": 0.5}},
        "test_cfg": limits(0.45, conf_thr=0.005),
    }


DARKNET = {
    "type": "Darknet",
    "depth": 53,
    "out_indices": (3, 4, 5),
    "init_cfg": {"type": "Pretrained", "checkpoint": "open-mmlab://darknet53"},
}
MOBILENET = {
    "type": "MobileNetV2",
    "out_indices": (2, 4, 6),
    "act_cfg": {"type": "LeakyReLU", "negative_slope": 0.1},
}
YOLO_D53 = yolo(DARKNET, [1024, 512, 256], [512, 256, 128], [1024, 512, 256])
YOLO_MOBILE = yolo(MOBILENET, [320, 96, 32], [96, 96, 96], [96, 96, 96])
YOLO_NORM = {"mean": [0, 0, 0], "std": [255.0, 255.0, 255.0]}
YOLO_320 = {
    "bbox_head": {
        "anchor_generator": {
            "base_sizes": [
                [(220, 125), (128, 222), (264, 266)],
                [(35, 87), (102, 96), (60, 170)],
                [(10, 15), (24, 36), (72, 42)],
            ]
        }
    }
}

ATTENTION = {"embed_dims": 256, "num_heads": 8, "dropout": 0.1}
FFN = {
    "embed_dims": 256,
    "feedforward_channels": 2048,
    "num_fcs": 2,
    "ffn_drop": 0.1,
    "act_cfg": {"type": "ReLU", "inplace": True},
}
DETR_LOSSES = {
    "loss_cls": SOFTMAX | {"bg_cls_weight": 0.1, "class_weight": 1.0},
    "loss_bbox": {"type": "L1Loss", "loss_weight": 5.0},
    "loss_iou": {"type": "GIoULoss", "loss_weight": 2.0},
}
ATTENTION_3 = ATTENTION | {"batch_first": True}
DETR = {
    "type": "DETR",
    "num_queries": 100,
    "data_preprocessor": preprocessor(pad_size_divisor=1),
    "backbone": resnet(out_indices=(3,), norm_cfg={"type": "BN", "requires_grad": False}),
    "neck": {
        "type": "ChannelMapper",
        "in_channels": [2048],
        "kernel_size": 1,
        "out_channels": 256,
        "act_cfg": None,
        "norm_cfg": None,
        "num_outs": 1,
    },
    "encoder": {"num_layers": 6, "layer_cfg": {"self_attn_cfg": ATTENTION_3, "ffn_cfg": FFN}},
    "decoder": {
        "num_layers": 6,
        "layer_cfg": {"self_attn_cfg": ATTENTION_3, "cross_attn_cfg": ATTENTION_3, "ffn_cfg": FFN},
        "return_intermediate": True,
    },
    "positional_encoding": {"num_feats": 128, "normalize": True},
    "bbox_head": {"type": "DETRHead", "num_classes": 80, "embed_dims": 256, **DETR_LOSSES},
    "train_cfg": {"assigner": {"type": "HungarianAssigner"}},
    "test_cfg": {"max_per_img": 100},
}
ATTENTION_2 = {"type": "MultiheadAttention", **ATTENTION}
LAYER_2 = {"feedforward_channels": 2048, "ffn_dropout": 0.1}
DETR_2 = {
    "type": "DETR",
    "backbone": resnet(out_indices=(3,)),
    "bbox_head": {
        "type": "DETRHead",
        "num_classes": 80,
        "in_channels": 2048,
        "transformer": {
            "type": "Transformer",
            "encoder": {
                "type": "DetrTransformerEncoder",
                "num_layers": 6,
                "transformerlayers": {
                    "type": "BaseTransformerLayer",
                    "attn_cfgs": [ATTENTION_2],
                    "operation_order": ("self_attn", "norm", "ffn", "norm"),
                    **LAYER_2,
                },
            },
            "decoder": {
                "type": "DetrTransformerDecoder",
                "return_intermediate": True,
                "num_layers": 6,
                "transformerlayers": {
                    "type": "DetrTransformerDecoderLayer",
                    "attn_cfgs": ATTENTION_2,
                    "operation_order": ("self_attn", "norm", "cross_attn", "norm", "ffn", "norm"),
                    **LAYER_2,
                },
            },
        },
        "positional_encoding": {"type": "SinePositionalEncoding", "num_feats": 128, "normalize": True},
        **DETR_LOSSES,
    },
    "test_cfg": {"max_per_img": 100},
}

SOLO_NORM = {"type": "GN", "num_groups": 32, "requires_grad": True}
SOLOV2 = {
    "type": "SOLOv2",
    "data_preprocessor": preprocessor(pad_size_divisor=32, pad_mask=True),
    "backbone": resnet(),
    "neck": fpn(start_level=0),
    "mask_head": {
        "type": "SOLOV2Head",
        "num_classes": 80,
        "in_channels": 256,
        "feat_channels": 512,
        "stacked_convs": 4,
        "strides": [8, 8, 16, 32, 32],
        "scale_ranges": ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048)),
        "pos_scale": 0.2,
        "num_grids": [40, 36, 24, 16, 12],
        "cls_down_index": 0,
        "mask_feature_head": {
            "feat_channels": 128,
            "start_level": 0,
            "end_level": 3,
            "out_channels": 256,
            "mask_stride": 4,
            "norm_cfg": SOLO_NORM,
        },
        "loss_mask": {"type": "DiceLoss", "use_sigmoid": True, "loss_weight": 3.0},
        "loss_cls": FOCAL,
    },
    "test_cfg": {
        "nms_pre": 500,
        "score_thr": 0.1,
        "mask_thr": 0.5,
        "filter_thr": 0.05,
        "kernel": "gaussian",
        "sigma": 2.0,
        "max_per_img": 100,
    },
}
SOLO = files("solov2/r50.py", {"model": SOLOV2}, "../_base_/data.py")
LIGHT = {
    "model": {
        "mask_head": {
            "stacked_convs": 2,
            "feat_channels": 256,
            "scale_ranges": ((1, 56), (28, 112), (56, 224), (112, 448), (224, 896)),
            "mask_feature_head": {"out_channels": 128},
        }
    },
    **data_3((448, 768)),
}
LIGHT_R50 = derived(SOLO, "solov2/light_r50.py", LIGHT)


def light(depth: int) -> dict[str, dict[str, Any]]:
    model = {"backbone": {"depth": depth}, "neck": {"in_channels": [64, 128, 256, 512]}}
    return derived(LIGHT_R50, f"solov2/light_r{depth}.py", {"model": model})


CORNERNET = {
    "type": "CornerNet",
    "backbone": {
        "type": "HourglassNet",
        "downsample_times": 5,
        "num_stacks": 2,
        "stage_channels": [256, 256, 384, 384, 384, 512],
        "stage_blocks": [2, 2, 2, 2, 2, 4],
        "norm_cfg": {"type": "BN", "requires_grad": True},
    },
    "neck": None,
    "bbox_head": {
        "type": "CornerHead",
        "num_classes": 80,
        "in_channels": 256,
        "num_feat_levels": 2,
        "corner_emb_channels": 1,
        "loss_heatmap": {"type": "GaussianFocalLoss", "alpha": 2.0},
        "loss_embedding": {"type": "AssociativeEmbeddingLoss", "pull_weight": 0.1},
        "loss_offset": {"type": "SmoothL1Loss", "beta": 1.0},
    },
    "train_cfg": None,
    "test_cfg": {
        "corner_topk": 100,
        "local_maximum_kernel": 3,
        "distance_threshold": 0.5,
        "score_thr": 0.05,
        "max_per_img": 100,
        "nms": {"type": "soft_nms", "iou_threshold": 0.5, "method": "gaussian"},
    },
}
CENTER_CROP_PAD = {
    "type": "RandomCenterCropPad",
    "crop_size": None,
    "ratios": None,
    "border": None,
    "test_mode": True,
    "test_pad_mode": ["logical_or", 127],
    **RGB,
    "to_rgb": True,
}
CORNERNET_STEPS = [
    {"type": "LoadImageFromFile", "to_float32": True},
    CENTER_CROP_PAD,
    {"type": "PackDetInputs"},
]
CORNERNET_STEPS_2 = [
    {"type": "LoadImageFromFile", "to_float32": True},
    {
        "type": "MultiScaleFlipAug",
        "scale_factor": 1.0,
        "flip": True,
        "transforms": [
            {"type": "Resize"},
            CENTER_CROP_PAD,
            {"type": "RandomFlip"},
            {"type": "Normalize", **RGB},
        ],
    },
]


MODELS_32 = {"pad_size_divisor": 32}
# Name in conf/detector → sets of files: of MMDetection 3, and of MMDetection 2 if they differ much
ORIGINALS: dict[str, list[dict[str, dict[str, Any]]]] = {
    "retinanet_r50_fpn": [RETINANET_R50, RETINANET_2],
    "retinanet_r101_fpn": [
        derived(RETINANET_R50, "retinanet/r101.py", {"model": {"backbone": {"depth": 101}}})
    ],
    "retinanet_r18_fpn": [
        derived(
            RETINANET_R50,
            "retinanet/r18.py",
            {"model": {"backbone": {"depth": 18}, "neck": {"in_channels": [64, 128, 256, 512]}}},
        )
    ],
    "fsaf_r50_fpn": [
        derived(RETINANET_R50, "fsaf/r50.py", {"model": {"type": "FSAF", "bbox_head": FSAF_HEAD}}),
        derived(RETINANET_2, "fsaf/r50_2.py", {"model": {"type": "FSAF", "bbox_head": FSAF_HEAD}}),
    ],
    "fcos_r50_caffe_fpn_gn_head": [
        files(
            "fcos/r50.py",
            {"model": FCOS | {"data_preprocessor": preprocessor(FCOS_NORM, False, **MODELS_32)}},
            "../_base_/data.py",
        ),
        files("fcos/r50_2.py", {"model": FCOS, **data_2(FCOS_NORM, rgb=False)}),
    ],
    "faster_rcnn_r50_fpn": [FASTER, FASTER_2],
    "faster_rcnn_r50_caffe_fpn": [derived(FASTER, "faster_rcnn/caffe.py", {"model": CAFFE_MODEL})],
    "mask_rcnn_r50_fpn": [MASK],
    "mask_rcnn_r101_fpn": [derived(MASK, "mask_rcnn/r101.py", {"model": {"backbone": {"depth": 101}}})],
    "cascade_rcnn_r50_fpn": [rcnn_files("cascade_rcnn", "CascadeRCNN", CASCADE_HEAD)],
    "cascade_mask_rcnn_r50_fpn": [rcnn_files("cascade_rcnn", "CascadeRCNN", CASCADE_HEAD | MASKS)],
    "point_rend_r50_caffe_fpn": [
        derived(
            derived(MASK, "mask_rcnn/caffe.py", {"model": CAFFE_MODEL}),
            "point_rend/r50.py",
            {"model": POINT_REND},
        )
    ],
    "ssd300": [
        {
            "ssd/300.py": {
                "model": SSD300 | {"data_preprocessor": preprocessor(SSD_NORM, pad_size_divisor=1)},
                **data_3((300, 300), keep_ratio=False),
            }
        },
        files("ssd/300_2.py", {"model": SSD300, **data_2(SSD_NORM, (300, 300), False, divisor=None)}),
    ],
    "ssdlite_mobilenetv2": [
        {"ssd/lite.py": {"model": SSDLITE, **data_3((320, 320), keep_ratio=False)}},
    ],
    "yolov3_d53_608": [
        {
            "yolo/608.py": {
                "model": YOLO_D53 | {"data_preprocessor": preprocessor(YOLO_NORM, **MODELS_32)},
                **data_3((608, 608)),
            }
        },
        files("yolo/608_2.py", {"model": YOLO_D53, **data_2(YOLO_NORM, (608, 608))}),
    ],
    "yolov3_mobilenetv2_320": [
        derived(
            {
                "yolo/416.py": {
                    "model": YOLO_MOBILE | {"data_preprocessor": preprocessor(**MODELS_32)},
                    **data_3((416, 416)),
                }
            },
            "yolo/320.py",
            {"model": YOLO_320, **data_3((320, 320))},
        )
    ],
    "detr_r50": [
        files("detr/r50.py", {"model": DETR}, "../_base_/data.py"),
        files("detr/r50_2.py", {"model": DETR_2, **data_2(divisor=1)}),
    ],
    "detr_r101": [
        files("detr/r101.py", {"model": DETR | {"backbone": DETR["backbone"] | {"depth": 101}}, **data_3()}),
    ],
    "detr_r18": [
        derived(
            files("detr/r50.py", {"model": DETR}, "../_base_/data.py"),
            "detr/r18.py",
            {"model": {"backbone": {"depth": 18}, "neck": {"in_channels": [512]}}},
        )
    ],
    "solov2_r50_fpn": [SOLO],
    "solov2_light_r50_fpn": [LIGHT_R50],
    "solov2_light_r34_fpn": [light(34)],
    "solov2_light_r18_fpn": [light(18)],
    "cornernet_hourglass104": [
        {
            "cornernet/104.py": {
                "model": CORNERNET | {"data_preprocessor": preprocessor()},
                "test_pipeline": CORNERNET_STEPS,
            }
        },
        {"cornernet/104_2.py": {"model": CORNERNET, "data": {"test": {"pipeline": CORNERNET_STEPS_2}}}},
    ],
}


def source_text(value: Any) -> str:
    """The Python source of `value`, as configs write it."""
    if isinstance(value, dict) and all(str(key).isidentifier() for key in value):
        return f"dict({', '.join(f'{key}={source_text(item)}' for key, item in value.items())})"
    if isinstance(value, list):
        return f"[{', '.join(source_text(item) for item in value)}]"
    return repr(value)


def write(files: dict[str, dict[str, Any]], folder: Any) -> Any:
    """Write the files into `folder`; returns the path of the file to adopt."""
    for name, values in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{key} = {source_text(value)}\n" for key, value in values.items()))
    return folder / next(iter(files))
