"""What detectron2's and maskrcnn-benchmark's configs have in common, which are both heirs of Detectron's."""

import math
from typing import Any

from samebox.adopt.literal import short
from samebox.adopt.section import Section
from samebox.networks.blocks.resnet import DEPTHS

# Sections and keys that concern training and the running of it
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

# The classes of the data sets that have fewer than COCO's own 80
KEYPOINT_CLASSES = ("person",)


def resnet(section: Section, depth: int, stages: list[int]) -> tuple[dict[str, Any], list[int]]:
    """ResNet of MODEL.RESNETS, and the channels of the maps that it gives."""
    stem, res2 = section.whole("STEM_OUT_CHANNELS", 64), section.whole("RES2_OUT_CHANNELS", 256)
    expansion = DEPTHS[depth][0].expansion if depth in DEPTHS else 4
    if depth not in DEPTHS:
        section.unsupported("DEPTH", depth)
    if res2 != stem * expansion:
        section.unsupported("RES2_OUT_CHANNELS", res2)
    section.only("NUM_GROUPS", 1)
    section.only("WIDTH_PER_GROUP", stem, default=64)
    section.only("RES5_DILATION", 1)
    style = "caffe" if section.flag("STRIDE_IN_1X1", True) else "pytorch"
    built = {"depth": depth, "style": style, "base_channels": stem, "out_stages": stages}
    return built, [res2 * 2**stage for stage in stages]


def levels(section: Section, key: str, letter: str, default: list[str]) -> list[int]:
    """The numbers of levels such as p2 or res3, ascending without a gap."""
    held = section.raw(key, default)
    names = held if isinstance(held, list) else []
    found = [int(str(name)[len(letter) :]) for name in names if str(name)[len(letter) :].isdigit()]
    good = len(found) == len(names) and all(str(name).startswith(letter) for name in names)
    if not found or not good or found != list(range(found[0], found[0] + len(found))):
        section.unsupported(key, held)
        return [2]
    return found


def scales(section: Section, key: str, sizes: list[list[float]], strides: list[int]) -> list[float]:
    """Sides of anchors in strides, which must be the same at all levels; `sizes`: of each, in pixels."""
    by_level = [
        [size / stride for size in level] for level, stride in zip(sizes, strides, strict=False) if stride
    ]
    alike = len(sizes) == len(strides) and all(
        len(level) == len(by_level[0]) and all(map(math.isclose, level, by_level[0])) for level in by_level
    )
    if not alike or not by_level or not by_level[0]:
        section.unsupported(key, sizes)
        return [1.0]
    return by_level[0]


def octave(section: Section, key: str, sides: list[float]) -> dict[str, Any]:
    """The same as an octave in equal steps."""
    expected = [sides[0] * 2 ** (index / len(sides)) for index in range(len(sides))]
    if not all(map(math.isclose, sides, expected)):
        section.unsupported(key, sides)
    return {"base": sides[0], "count": len(sides)}


def stds(section: Section, key: str, default: tuple[float, ...]) -> list[float]:
    """The unit of deltas, of which the config has the inverse."""
    weights = section.numbers(key, default)
    if len(weights) != 4 or not all(weights):
        section.unsupported(key, weights)
        return []
    return [1 / weight for weight in weights]


def same_widths(section: Section, key: str, default: tuple[int, ...]) -> tuple[int, int]:
    """The channels of convolutions that all have as many, and their number."""
    widths = section.wholes(key, default)
    if len(set(widths)) != 1:
        section.unsupported(key, widths)
    return (widths[0] if widths else 0), len(widths)


def resize(section: Section) -> dict[str, Any]:
    """The test scale of INPUT."""
    short_side, long_side = section.whole("MIN_SIZE_TEST", 800), section.whole("MAX_SIZE_TEST", 1333)
    if not 0 < short_side <= long_side:
        section.unsupported("MIN_SIZE_TEST", short_side)
    return {"scale": [long_side, short_side], "keep_ratio": True, "fit": False}


def class_names(config: Section) -> tuple[str, ...] | None:
    """The classes of the data set to test on, where they are not as many as COCO's."""
    with config.section("DATASETS") as datasets:
        held = datasets.raw("TEST", [])
        datasets.left.clear()
    names = held if isinstance(held, list) else [held]
    return KEYPOINT_CLASSES if any("keypoints_coco" in short(name) for name in names) else None
