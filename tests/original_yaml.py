"""detectron2's and maskrcnn-benchmark's configs of the detectors in conf/detector, rewritten for tests.

As in `original_mmdetection`, each is a set of files, and the first file is the one to adopt. Tuples are
written as text, because YAML reads them as text.
"""

import json
from typing import Any

LEVELS = ["p2", "p3", "p4", "p5"]
STAGES = ["res2", "res3", "res4", "res5"]
TRAINING = {"SOLVER": {"IMS_PER_BATCH": 16, "BASE_LR": 0.02, "STEPS": "(60000, 80000)", "MAX_ITER": 90000}}
TRAINING_SIZES = {"INPUT": {"MIN_SIZE_TRAIN": "(640, 672, 704, 736, 768, 800)"}}
RCNN = {
    "MODEL": {
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "BACKBONE": {"NAME": "build_resnet_fpn_backbone"},
        "RESNETS": {"OUT_FEATURES": STAGES},
        "FPN": {"IN_FEATURES": STAGES},
        "ANCHOR_GENERATOR": {"SIZES": [[32], [64], [128], [256], [512]], "ASPECT_RATIOS": [[0.5, 1.0, 2.0]]},
        "RPN": {
            "IN_FEATURES": [*LEVELS, "p6"],
            "PRE_NMS_TOPK_TRAIN": 2000,
            "PRE_NMS_TOPK_TEST": 1000,
            "POST_NMS_TOPK_TRAIN": 1000,
            "POST_NMS_TOPK_TEST": 1000,
        },
        "ROI_HEADS": {"NAME": "StandardROIHeads", "IN_FEATURES": LEVELS},
        "ROI_BOX_HEAD": {"NAME": "FastRCNNConvFCHead", "NUM_FC": 2, "POOLER_RESOLUTION": 7},
        "ROI_MASK_HEAD": {"NAME": "MaskRCNNConvUpsampleHead", "NUM_CONV": 4, "POOLER_RESOLUTION": 14},
    },
    "DATASETS": {"TRAIN": '("coco_2017_train",)', "TEST": '("coco_2017_val",)'},
    "VERSION": 2,
    **TRAINING,
    **TRAINING_SIZES,
}
# detectron2 writes RetinaNet's anchors as a call of Python's eval
RETINANET = """
MODEL:
  META_ARCHITECTURE: RetinaNet
  BACKBONE: {NAME: build_retinanet_resnet_fpn_backbone}
  RESNETS: {OUT_FEATURES: [res3, res4, res5]}
  ANCHOR_GENERATOR:
    SIZES:
      !!python/object/apply:eval ["[[s, s * 2**(1.0/3), s * 2**(2.0/3)] for s in [32, 64, 128, 256, 512]]"]
  FPN: {IN_FEATURES: [res3, res4, res5]}
  RETINANET: {IOU_THRESHOLDS: [0.4, 0.5], IOU_LABELS: [0, -1, 1], SMOOTH_L1_LOSS_BETA: 0.0}
DATASETS: {TEST: ("coco_2017_val",)}
VERSION: 2
"""
ROOT = "Base-RCNN-FPN.yaml"


def derived(name: str, own: dict[str, Any], base: str = ROOT, **others: Any) -> dict[str, Any]:
    """A detectron2 config with the keys `own` of MODEL, based on `base`, with all files it needs."""
    return {f"COCO/{name}.yaml": {"_BASE_": f"../{base}", "MODEL": own}, ROOT: RCNN, **others}


KEYPOINTS = {
    "MODEL": {
        "KEYPOINT_ON": True,
        "ROI_HEADS": {"NUM_CLASSES": 1},
        "ROI_BOX_HEAD": {"SMOOTH_L1_BETA": 0.5},
        "RPN": {"POST_NMS_TOPK_TRAIN": 1500},
    },
    "DATASETS": {"TRAIN": '("keypoints_coco_2017_train",)', "TEST": '("keypoints_coco_2017_val",)'},
}
PANOPTIC = {
    "MODEL": {
        "META_ARCHITECTURE": "PanopticFPN",
        "MASK_ON": True,
        "SEM_SEG_HEAD": {"LOSS_WEIGHT": 0.5},
        "PANOPTIC_FPN": {"COMBINE": {"ENABLED": True}},
    },
    "DATASETS": {"TEST": '("coco_2017_val_panoptic_separated",)'},
    "DATALOADER": {"FILTER_EMPTY_ANNOTATIONS": False},
}
WEIGHTS = {"WEIGHTS": "detectron2://ImageNetPretrained/MSRA/R-50.pkl"}

SCALES = "(0.25, 0.125, 0.0625, 0.03125)"
POOLER = {"POOLER_SCALES": SCALES, "POOLER_SAMPLING_RATIO": 2}


def benchmark(body: str, test: str = "coco_2014_minival", **parts: Any) -> dict[str, Any]:
    """A maskrcnn-benchmark config with the backbone `body` and the further `parts` of MODEL."""
    box = {
        "POOLER_RESOLUTION": 7,
        "FEATURE_EXTRACTOR": "FPN2MLPFeatureExtractor",
        "PREDICTOR": "FPNPredictor",
        **POOLER,
        **parts.pop("box", {}),
    }
    return {
        "MODEL": {
            "META_ARCHITECTURE": "GeneralizedRCNN",
            "WEIGHT": "catalog://ImageNetPretrained/MSRA/R-50",
            "BACKBONE": {"CONV_BODY": body},
            "RESNETS": {"BACKBONE_OUT_CHANNELS": 256},
            "RPN": {
                "USE_FPN": True,
                "ANCHOR_STRIDE": "(4, 8, 16, 32, 64)",
                "PRE_NMS_TOP_N_TRAIN": 2000,
                "PRE_NMS_TOP_N_TEST": 1000,
                "POST_NMS_TOP_N_TEST": 1000,
                "FPN_POST_NMS_TOP_N_TEST": 1000,
            },
            "ROI_HEADS": {"USE_FPN": True},
            "ROI_BOX_HEAD": box,
            **parts,
        },
        "DATASETS": {"TEST": f'("{test}",)'},
        "DATALOADER": {"SIZE_DIVISIBILITY": 32},
        **TRAINING,
        **TRAINING_SIZES,
    }


MASK_PARTS = {
    "MASK_ON": True,
    "ROI_MASK_HEAD": {
        "FEATURE_EXTRACTOR": "MaskRCNNFPNFeatureExtractor",
        "PREDICTOR": "MaskRCNNC4Predictor",
        "POOLER_RESOLUTION": 14,
        "RESOLUTION": 28,
        "SHARE_BOX_FEATURE_EXTRACTOR": False,
        **POOLER,
    },
}
KEYPOINT_PARTS = {
    "KEYPOINT_ON": True,
    "box": {"NUM_CLASSES": 2},
    "ROI_KEYPOINT_HEAD": {
        "FEATURE_EXTRACTOR": "KeypointRCNNFeatureExtractor",
        "PREDICTOR": "KeypointRCNNPredictor",
        "POOLER_RESOLUTION": 14,
        "RESOLUTION": 56,
        "SHARE_BOX_FEATURE_EXTRACTOR": False,
        **POOLER,
    },
}

ORIGINALS: dict[str, dict[str, Any]] = {
    "d2_retinanet_r50_fpn_1x": {
        "COCO/retinanet.yaml": {"_BASE_": "../Base.yaml", "MODEL": WEIGHTS | {"RESNETS": {"DEPTH": 50}}},
        "Base.yaml": RETINANET,
    },
    "d2_faster_rcnn_r50_fpn_1x": derived("faster", WEIGHTS | {"MASK_ON": False, "RESNETS": {"DEPTH": 50}}),
    "d2_mask_rcnn_r50_fpn_1x": derived("mask", WEIGHTS | {"MASK_ON": True, "RESNETS": {"DEPTH": 50}}),
    "d2_mask_rcnn_r101_fpn_3x": derived("mask_101", WEIGHTS | {"MASK_ON": True, "RESNETS": {"DEPTH": 101}}),
    "d2_keypoint_rcnn_r50_fpn_1x": derived(
        "keypoint",
        {"RESNETS": {"DEPTH": 50}},
        "K/Base.yaml",
        **{"K/Base.yaml": {"_BASE_": f"../{ROOT}", **KEYPOINTS}},
    ),
    "d2_panoptic_fpn_r50_1x": derived(
        "panoptic",
        {"RESNETS": {"DEPTH": 50}},
        "P/Base.yaml",
        **{"P/Base.yaml": {"_BASE_": f"../{ROOT}", **PANOPTIC}},
    ),
    "mb_faster_rcnn_r50_fpn_1x": {"faster.yaml": benchmark("R-50-FPN")},
    "mb_mask_rcnn_r50_fpn_1x": {"mask.yaml": benchmark("R-50-FPN", **MASK_PARTS)},
    "mb_mask_rcnn_r101_fpn_1x": {"mask.yaml": benchmark("R-101-FPN", **MASK_PARTS)},
    "mb_keypoint_rcnn_r50_fpn_1x": {
        "keypoint.yaml": benchmark("R-50-FPN", "keypoints_coco_2014_minival", **KEYPOINT_PARTS)
    },
}


def write(files: dict[str, Any], folder: Any) -> Any:
    """Write the files into `folder`; returns the path of the file to adopt."""
    for name, values in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(values if isinstance(values, str) else json.dumps(values))
    return folder / next(iter(files))
