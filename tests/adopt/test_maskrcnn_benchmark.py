import original_yaml as original
import pytest
from changes import with_value

from samebox.adopt import maskrcnn_benchmark
from samebox.adopt.configs.yaml_files import yaml_config
from samebox.core.errors import SameboxError

UNSUPPORTED = [
    ("MODEL.BACKBONE.CONV_BODY", "R-50-C4", "MODEL.BACKBONE.CONV_BODY='R-50-C4'"),
    ("MODEL.BACKBONE.CONV_BODY", "R-152-FPN", "MODEL.RESNETS.DEPTH=152"),
    ("MODEL.FPN.USE_GN", True, "MODEL.FPN.USE_GN=True"),
    ("MODEL.RESNETS.NUM_GROUPS", 32, "MODEL.RESNETS.NUM_GROUPS=32"),
    ("MODEL.RESNETS.STAGE_WITH_DCN", [False, True, True, True], "MODEL.RESNETS.STAGE_WITH_DCN="),
    ("MODEL.RESNETS.TRANS_FUNC", "BottleneckWithGN", "MODEL.RESNETS.TRANS_FUNC='BottleneckWithGN'"),
    ("MODEL.RETINANET_ON", True, "MODEL.RETINANET_ON=True"),
    ("MODEL.RPN.USE_FPN", False, "MODEL.RPN.USE_FPN=False"),
    ("MODEL.RPN.POST_NMS_TOP_N_TEST", 500, "MODEL.RPN.POST_NMS_TOP_N_TEST="),
    ("MODEL.RPN.ANCHOR_SIZES", [32, 64], "MODEL.RPN.ANCHOR_SIZES="),
    ("MODEL.ROI_HEADS.BBOX_REG_WEIGHTS", [10.0], "MODEL.ROI_HEADS.BBOX_REG_WEIGHTS=[10.0]"),
    (
        "MODEL.ROI_BOX_HEAD.FEATURE_EXTRACTOR",
        "FPNXconv1fcFeatureExtractor",
        "ROI_BOX_HEAD.FEATURE_EXTRACTOR=",
    ),
    ("MODEL.ROI_MASK_HEAD.CONV_LAYERS", [256, 128], "MODEL.ROI_MASK_HEAD.CONV_LAYERS=[256, 128]"),
    ("MODEL.ROI_MASK_HEAD.DILATION", 2, "MODEL.ROI_MASK_HEAD.DILATION=2"),
    ("MODEL.NOVEL", 1, "MODEL.NOVEL"),
    ("INPUT.TO_BGR255", False, "INPUT.TO_BGR255=False"),
    ("TEST.BBOX_AUG.ENABLED", True, "TEST.BBOX_AUG.ENABLED=True"),
]


def config(tmp_path):
    return yaml_config(original.write(original.ORIGINALS["mb_mask_rcnn_r50_fpn_1x"], tmp_path))


@pytest.mark.parametrize(("path", "value", "message"), UNSUPPORTED, ids=[case[0] for case in UNSUPPORTED])
def test_unsupported_keys_are_reported(tmp_path, path, value, message):
    with pytest.raises(SameboxError) as error:
        maskrcnn_benchmark.adopt(with_value(config(tmp_path), path, value), "a.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_numbers_are_adopted(tmp_path):
    source = config(tmp_path)
    for path, value in {
        "MODEL.ROI_BOX_HEAD.NUM_CLASSES": 8,
        "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 0,
        "MODEL.ROI_HEADS.NMS": 0.4,
        "MODEL.ROI_HEADS.DETECTIONS_PER_IMG": 50,
        "MODEL.RPN.ANCHOR_SIZES": [16, 32, 64, 128, 256],
        "INPUT.PIXEL_MEAN": [1, 2, 3],
        "DATALOADER.SIZE_DIVISIBILITY": 0,
    }.items():
        source = with_value(source, path, value)
    adopted = maskrcnn_benchmark.adopt(source, "a.yaml")
    network = adopted.values["network"]
    assert (adopted.num_classes, adopted.family) == (7, "mb_mask_rcnn")
    assert network["roi_head"]["nms"] == {"iou_threshold": 0.4, "count": 50}
    assert network["roi_head"]["bbox_head"]["roi_align"]["samples"] is None
    assert network["rpn_head"]["anchors"]["scales"] == [4.0]
    assert adopted.values["normalize"]["mean"] == [1.0, 2.0, 3.0]
    assert adopted.values["preprocess"]["divisor"] == 1
