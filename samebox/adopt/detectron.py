"""What detectron2's and maskrcnn-benchmark's configs share; both frameworks descend from Detectron."""

import math
from collections.abc import Callable
from typing import Any

from samebox.adopt.configs.values import short_repr
from samebox.adopt.section import Section
from samebox.networks.blocks.resnet import DEPTHS

# Sections and keys that only training and the running of it use
TRAINING = (
    "AMP_VERBOSE",
    "CUDNN_BENCHMARK",
    "DATALOADER",
    "DTYPE",
    "FLOAT32_PRECISION",
    "GLOBAL",
    "OUTPUT_DIR",
    "PATHS_CATALOG",
    "SEED",
    "SOLVER",
    "VERSION",
    "VIS_PERIOD",
)

# The classes of COCO's keypoint data sets; all other data sets named in configs have COCO's 80
KEYPOINT_CLASSES = ("person",)


def resnet(section: Section, depth: int, stages: list[int]) -> tuple[dict[str, Any], list[int]]:
    """The ResNet of MODEL.RESNETS, and the channels of its outputs at `stages` (0 to 3)."""
    stem, res2 = section.integer("STEM_OUT_CHANNELS", 64), section.integer("RES2_OUT_CHANNELS", 256)
    expansion = DEPTHS[depth][0].expansion if depth in DEPTHS else 4
    if depth not in DEPTHS:
        section.reject("DEPTH", depth)
    if res2 != stem * expansion:
        section.reject("RES2_OUT_CHANNELS", res2)
    section.expect("NUM_GROUPS", 1)
    section.expect("WIDTH_PER_GROUP", stem, default=64)
    section.expect("RES5_DILATION", 1)
    style = "caffe" if section.flag("STRIDE_IN_1X1", True) else "pytorch"
    backbone = {"depth": depth, "style": style, "base_channels": stem, "out_stages": stages}
    return backbone, [res2 * 2**stage for stage in stages]


def levels(section: Section, key: str, prefix: str, default: list[str]) -> list[int]:
    """The numbers in names of levels, such as 2 in `p2` or `res2`: ascending, without a gap."""
    value = section.take(key, default)
    names = value if isinstance(value, list) else []
    numbers = [int(str(name)[len(prefix) :]) for name in names if str(name)[len(prefix) :].isdigit()]
    well_formed = len(numbers) == len(names) and all(str(name).startswith(prefix) for name in names)
    if not numbers or not well_formed or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        section.reject(key, value)
        return [2]
    return numbers


def scales(section: Section, key: str, sizes: list[list[float]], strides: list[int]) -> list[float]:
    """The sides of anchors as multiples of the stride, from `sizes`: the sides at each level in pixels.

    Sizes whose multiples are not the same at all levels are rejected.
    """
    by_level = [
        [size / stride for size in level] for level, stride in zip(sizes, strides, strict=False) if stride
    ]
    equal = len(sizes) == len(strides) and all(
        len(level) == len(by_level[0]) and all(map(math.isclose, level, by_level[0])) for level in by_level
    )
    if not equal or not by_level or not by_level[0]:
        section.reject(key, sizes)
        return [1.0]
    return by_level[0]


def octave(section: Section, key: str, scales: list[float]) -> dict[str, Any]:
    """`scales` as the first one and their number; scales that do not divide an octave evenly are rejected."""
    even = [scales[0] * 2 ** (index / len(scales)) for index in range(len(scales))]
    if not all(map(math.isclose, scales, even)):
        section.reject(key, scales)
    return {"base": scales[0], "count": len(scales)}


def stds(section: Section, key: str, default: tuple[float, ...]) -> list[float]:
    """The units of the four box deltas. The config has their inverse, as weights."""
    weights = section.numbers(key, default)
    if len(weights) != 4 or not all(weights):
        section.reject(key, weights)
        return []
    return [1 / weight for weight in weights]


def equal_channels(section: Section, key: str, default: tuple[int, ...]) -> tuple[int, int]:
    """The channels of a row of convolutions, and how many there are; different channels are rejected."""
    channels = section.integers(key, default)
    if len(set(channels)) != 1:
        section.reject(key, channels)
    return (channels[0] if channels else 0), len(channels)


def normalization(section: Section, default_mean: tuple[float, ...], channel_order: str) -> dict[str, Any]:
    """PIXEL_MEAN and PIXEL_STD."""
    mean = [float(value) for value in section.numbers("PIXEL_MEAN", default_mean)]
    std = [float(value) for value in section.numbers("PIXEL_STD", (1.0, 1.0, 1.0))]
    return {"mean": mean, "std": std, "channel_order": channel_order}


def resize(section: Section) -> dict[str, Any]:
    """The test scale of INPUT, in pixels."""
    short_side, long_side = section.integer("MIN_SIZE_TEST", 800), section.integer("MAX_SIZE_TEST", 1333)
    if not 0 < short_side <= long_side:
        section.reject("MIN_SIZE_TEST", short_side)
    return {"scale": [long_side, short_side], "keep_ratio": True, "fit": False}


def add_optional_heads(
    model: Section,
    roi_head: dict[str, Any],
    mask_head: Callable[[], dict[str, Any]],
    keypoint_head: Callable[[], dict[str, Any]],
) -> str:
    """Add the head that MASK_ON or KEYPOINT_ON enables to `roi_head`; returns the family, without prefix."""
    masks, keypoints = model.flag("MASK_ON", False), model.flag("KEYPOINT_ON", False)
    if masks and keypoints:
        model.reject("KEYPOINT_ON", reason="together with MASK_ON")
    if masks:
        roi_head["mask_head"] = mask_head()
    if keypoints:
        roi_head["keypoint_head"] = keypoint_head()
    return "mask_rcnn" if masks else "keypoint_rcnn" if keypoints else "faster_rcnn"


def class_names(config: Section) -> tuple[str, ...] | None:
    """The classes of the test data set if it is one of COCO's keypoint data sets, else None."""
    with config.section("DATASETS") as datasets:
        value = datasets.take("TEST", [])
        datasets.ignore_rest()
    names = value if isinstance(value, list) else [value]
    return KEYPOINT_CLASSES if any("keypoints_coco" in short_repr(name) for name in names) else None
