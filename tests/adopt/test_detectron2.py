import original_yaml as original
import pytest
from changes import with_value

from samebox.adopt import detectron2
from samebox.adopt.configs.yaml_files import yaml_config
from samebox.core.errors import SameboxError

# The sections of a complete config, as training writes it beside the weights
COMPLETE = {
    "MODEL": {
        "BACKBONE": {"FREEZE_AT": 2},
        "DEVICE": "cuda",
        "FPN": {"FUSE_TYPE": "sum", "NORM": "", "OUT_CHANNELS": 256},
        "LOAD_PROPOSALS": False,
        "ANCHOR_GENERATOR": {"ANGLES": [[-90, 0, 90]], "NAME": "DefaultAnchorGenerator", "OFFSET": 0.0},
        "PANOPTIC_FPN": {"COMBINE": {"ENABLED": True, "OVERLAP_THRESH": 0.5}, "INSTANCE_LOSS_WEIGHT": 1.0},
        "PIXEL_MEAN": [103.53, 116.28, 123.675],
        "PIXEL_STD": [1.0, 1.0, 1.0],
        "PROPOSAL_GENERATOR": {"MIN_SIZE": 0, "NAME": "RPN"},
        "RESNETS": {
            "DEFORM_MODULATED": False,
            "DEFORM_NUM_GROUPS": 1,
            "DEFORM_ON_PER_STAGE": [False, False, False, False],
            "NORM": "FrozenBN",
            "NUM_GROUPS": 1,
            "RES2_OUT_CHANNELS": 256,
            "RES5_DILATION": 1,
            "STEM_OUT_CHANNELS": 64,
            "STRIDE_IN_1X1": True,
            "WIDTH_PER_GROUP": 64,
        },
        "RETINANET": {"NUM_CLASSES": 80, "PRIOR_PROB": 0.01, "SOMETHING": 1},
        "ROI_BOX_CASCADE_HEAD": {"IOUS": [0.5, 0.6, 0.7]},
        "ROI_BOX_HEAD": {
            "BBOX_REG_LOSS_TYPE": "smooth_l1",
            "BBOX_REG_LOSS_WEIGHT": 1.0,
            "BBOX_REG_WEIGHTS": [10.0, 10.0, 5.0, 5.0],
            "CLS_AGNOSTIC_BBOX_REG": False,
            "CONV_DIM": 256,
            "FC_DIM": 1024,
            "FED_LOSS_FREQ_WEIGHT_POWER": 0.5,
            "FED_LOSS_NUM_CLASSES": 50,
            "NORM": "",
            "NUM_CONV": 0,
            "POOLER_SAMPLING_RATIO": 0,
            "POOLER_TYPE": "ROIAlignV2",
            "SMOOTH_L1_BETA": 0.0,
            "TRAIN_ON_PRED_BOXES": False,
            "USE_FED_LOSS": False,
            "USE_SIGMOID_CE": False,
        },
        "ROI_HEADS": {
            "BATCH_SIZE_PER_IMAGE": 512,
            "IOU_LABELS": [0, 1],
            "IOU_THRESHOLDS": [0.5],
            "NMS_THRESH_TEST": 0.5,
            "NUM_CLASSES": 80,
            "POSITIVE_FRACTION": 0.25,
            "PROPOSAL_APPEND_GT": True,
            "SCORE_THRESH_TEST": 0.05,
        },
        "ROI_KEYPOINT_HEAD": {"CONV_DIMS": [512] * 8, "NUM_KEYPOINTS": 17},
        "ROI_MASK_HEAD": {
            "CLS_AGNOSTIC_MASK": False,
            "CONV_DIM": 256,
            "NORM": "",
            "POOLER_SAMPLING_RATIO": 0,
            "POOLER_TYPE": "ROIAlignV2",
        },
        "RPN": {
            "BATCH_SIZE_PER_IMAGE": 256,
            "BBOX_REG_LOSS_TYPE": "smooth_l1",
            "BBOX_REG_LOSS_WEIGHT": 1.0,
            "BBOX_REG_WEIGHTS": [1.0, 1.0, 1.0, 1.0],
            "BOUNDARY_THRESH": -1,
            "CONV_DIMS": [-1],
            "HEAD_NAME": "StandardRPNHead",
            "IOU_LABELS": [0, -1, 1],
            "IOU_THRESHOLDS": [0.3, 0.7],
            "LOSS_WEIGHT": 1.0,
            "NMS_THRESH": 0.7,
            "POSITIVE_FRACTION": 0.5,
            "SMOOTH_L1_BETA": 0.0,
        },
        "SEM_SEG_HEAD": {"NUM_CLASSES": 54, "NORM": "GN"},
        "WEIGHTS": "",
    },
    "INPUT": {
        "CROP": {"ENABLED": False, "SIZE": [0.9, 0.9], "TYPE": "relative_range"},
        "FORMAT": "BGR",
        "MASK_FORMAT": "polygon",
        "MAX_SIZE_TEST": 1333,
        "MAX_SIZE_TRAIN": 1333,
        "MIN_SIZE_TEST": 800,
        "MIN_SIZE_TRAIN_SAMPLING": "choice",
        "RANDOM_FLIP": "horizontal",
    },
    "DATASETS": {"PROPOSAL_FILES_TEST": [], "PRECOMPUTED_PROPOSAL_TOPK_TEST": 1000},
    "TEST": {
        "AUG": {"ENABLED": False, "FLIP": True, "MAX_SIZE": 4000, "MIN_SIZES": [400, 500]},
        "DETECTIONS_PER_IMAGE": 100,
        "EVAL_PERIOD": 0,
        "EXPECTED_RESULTS": [],
        "KEYPOINT_OKS_SIGMAS": [],
        "PRECISE_BN": {"ENABLED": False, "NUM_ITER": 200},
    },
    "CUDNN_BENCHMARK": False,
    "FLOAT32_PRECISION": "",
    "GLOBAL": {"HACK": 1.0},
    "OUTPUT_DIR": "./output",
    "SEED": -1,
    "VIS_PERIOD": 0,
}


def config(name, tmp_path):
    return yaml_config(original.write(original.ORIGINALS[name], tmp_path))


def completed(config, defaults):
    """`config`, with the values of `defaults` for keys that it does not have."""
    if not isinstance(config, dict):
        return config
    return defaults | {
        key: completed(value, defaults[key]) if key in defaults else value for key, value in config.items()
    }


def test_a_complete_config_gives_the_same_as_a_short_one(tmp_path):
    short = config("d2_mask_rcnn_r50_fpn_1x", tmp_path)
    expected = detectron2.adopt(short, "a.yaml")
    assert detectron2.adopt(completed(short, COMPLETE), "a.yaml") == expected


UNSUPPORTED = [
    ("MODEL.META_ARCHITECTURE", "ProposalNetwork", "MODEL.META_ARCHITECTURE='ProposalNetwork'"),
    ("MODEL.BACKBONE.NAME", "build_swin", "MODEL.BACKBONE.NAME='build_swin'"),
    (
        "MODEL.RESNETS.DEFORM_ON_PER_STAGE",
        [False, True, True, True],
        "MODEL.RESNETS.DEFORM_ON_PER_STAGE=",
    ),
    ("MODEL.RESNETS.NUM_GROUPS", 32, "MODEL.RESNETS.NUM_GROUPS=32"),
    ("MODEL.RESNETS.DEPTH", 152, "MODEL.RESNETS.DEPTH=152"),
    ("MODEL.RESNETS.OUT_FEATURES", ["res4"], "MODEL.FPN.IN_FEATURES"),
    ("MODEL.FPN.NORM", "GN", "MODEL.FPN.NORM='GN'"),
    ("MODEL.RPN.CONV_DIMS", [-1, -1], "MODEL.RPN.CONV_DIMS=[-1, -1]"),
    ("MODEL.RPN.IN_FEATURES", ["res4"], "MODEL.RPN.IN_FEATURES=['res4']"),
    ("MODEL.ANCHOR_GENERATOR.SIZES", [[32, 64]], "MODEL.ANCHOR_GENERATOR.SIZES"),
    ("MODEL.ANCHOR_GENERATOR.OFFSET", 0.5, "MODEL.ANCHOR_GENERATOR.OFFSET=0.5"),
    ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_HEADS.NAME='CascadeROIHeads'"),
    ("MODEL.ROI_BOX_HEAD.NUM_CONV", 4, "MODEL.ROI_BOX_HEAD.NUM_CONV=4"),
    ("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True, "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG=True"),
    ("MODEL.ROI_BOX_HEAD.NOVEL", 1, "MODEL.ROI_BOX_HEAD.NOVEL"),
    ("MODEL.ROI_MASK_HEAD.NAME", "PointRendMaskHead", "MODEL.ROI_MASK_HEAD.NAME='PointRendMaskHead'"),
    ("MODEL.KEYPOINT_ON", True, "MODEL.KEYPOINT_ON (together with MASK_ON)"),
    ("MODEL.NOVEL", {"A": 1}, "MODEL.NOVEL"),
    ("NOVEL", 1, "not supported: NOVEL;"),
    ("INPUT.FORMAT", "L", "INPUT.FORMAT='L'"),
    ("INPUT.MIN_SIZE_TEST", 0, "INPUT.MIN_SIZE_TEST=0"),
    ("TEST.AUG.ENABLED", True, "TEST.AUG.ENABLED=True"),
]


@pytest.mark.parametrize(("path", "value", "message"), UNSUPPORTED, ids=[case[0] for case in UNSUPPORTED])
def test_unsupported_keys_are_reported(tmp_path, path, value, message):
    source = with_value(config("d2_mask_rcnn_r50_fpn_1x", tmp_path), path, value)
    with pytest.raises(SameboxError) as error:
        detectron2.adopt(source, "a.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_numbers_are_adopted(tmp_path):
    source = config("d2_mask_rcnn_r50_fpn_1x", tmp_path)
    for path, value in {
        "MODEL.ROI_HEADS.NUM_CLASSES": 7,
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.3,
        "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlign",
        "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 2,
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
        "MODEL.RPN.POST_NMS_TOPK_TEST": 500,
        "INPUT.MIN_SIZE_TEST": 600,
        "INPUT.FORMAT": "RGB",
        "TEST.DETECTIONS_PER_IMAGE": 50,
    }.items():
        source = with_value(source, path, value)
    adopted = detectron2.adopt(source, "a.yaml")
    network = adopted.values["network"]
    assert (adopted.num_classes, adopted.family) == (7, "d2_mask_rcnn")
    assert network["roi_head"]["score_threshold"] == 0.3
    assert network["roi_head"]["nms"]["count"] == 50
    align = network["roi_head"]["bbox_head"]["roi_align"]
    assert (align["samples"], align["aligned"]) == (2, False)
    assert network["backbone"]["style"] == "pytorch"
    assert network["rpn_head"]["nms"]["count"] == 500
    assert adopted.values["preprocess"]["resize"]["scale"] == [1333, 600]
    assert adopted.values["normalize"]["channel_order"] == "RGB"
