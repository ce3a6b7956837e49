"""MMDetection's anchor generators."""

from typing import Any

from samebox.adopt.section import Section

# SSDAnchorGenerator's minimum and maximum size at the finest level, in percent of the input size;
# by input size and the first ratio of the size range
_SSD_FIRST_SIZES = {(300, 0.15): (7, 15), (300, 0.2): (10, 20), (512, 0.1): (4, 10), (512, 0.15): (7, 15)}


def anchors(head: Section) -> dict[str, Any]:
    """AnchorGenerator. `scales` are the sides of a square anchor as multiples of the stride."""
    with head.section("anchor_generator") as generator:
        generator.choice("AnchorGenerator")
        generator.expect("scale_major", True)
        generator.expect("center_offset", 0, 0.0)
        generator.expect("base_sizes", None)
        generator.expect("centers", None)
        if "octave_base_scale" in generator:
            base, count = generator.number("octave_base_scale"), generator.integer("scales_per_octave")
            scales = [base * 2 ** (index / count) for index in range(count)]
        else:
            scales = generator.numbers("scales")
        return {
            "_target_": "samebox.networks.blocks.anchors.Anchors",
            "strides": generator.integers("strides"),
            "ratios": [float(ratio) for ratio in generator.numbers("ratios")],
            "scales": scales,
        }


def octave_anchors(head: Section) -> dict[str, Any]:
    """AnchorGenerator whose scales divide an octave evenly; other scales are rejected."""
    config = anchors(head)
    scales = config["scales"] or [1]
    octave = {"base": scales[0], "count": len(scales)}
    if scales != [octave["base"] * 2 ** (index / len(scales)) for index in range(len(scales))]:
        head.reject("anchor_generator.scales", scales)
    return config | {"scales": {"_target_": "samebox.networks.blocks.anchors.octave_scales", **octave}}


def ssd_anchors(head: Section) -> dict[str, Any]:
    """SSDAnchorGenerator, with its sizes in pixels or as ratios of the input size."""
    with head.section("anchor_generator") as generator:
        generator.choice("SSDAnchorGenerator")
        generator.require("scale_major", False)
        generator.expect("centers", None)
        strides = generator.integers("strides")
        if "min_sizes" in generator:
            min_sizes, max_sizes = generator.numbers("min_sizes"), generator.numbers("max_sizes")
            generator.ignore("input_size", "basesize_ratio_range")
        else:
            min_sizes, max_sizes = ssd_sizes(generator, len(strides))
        ratios = generator.nested_numbers("ratios")
        sides = {"min_sizes": min_sizes, "max_sizes": max_sizes, "ratios": ratios}
        return {
            "_target_": "samebox.networks.blocks.anchors.SizedAnchors",
            "strides": strides,
            "sides": {"_target_": "samebox.networks.blocks.anchors.ssd_sides", **sides},
        }


def ssd_sizes(generator: Section, levels: int) -> tuple[list[int], list[int]]:
    """The minimum and maximum size of each level in pixels, computed as SSDAnchorGenerator does."""
    input_size = generator.integer("input_size", 300)
    size_range = generator.numbers("basesize_ratio_range", (0.15, 0.9))
    first = _SSD_FIRST_SIZES.get((input_size, size_range[0])) if len(size_range) == 2 else None
    if first is None or levels < 3:
        generator.reject("basesize_ratio_range", size_range)
        return [], []
    low, high = (int(ratio * 100) for ratio in size_range)
    step = (high - low) // (levels - 2)
    percents = [first, *((percent, percent + step) for percent in range(low, high + 1, step))]
    min_sizes, max_sizes = (
        [int(input_size * percent / 100) for percent in column] for column in zip(*percents, strict=True)
    )
    return min_sizes, max_sizes


def yolo_anchors(head: Section) -> dict[str, Any]:
    """YOLOAnchorGenerator: the width and height of each anchor in pixels, by level."""
    with head.section("anchor_generator") as generator:
        generator.choice("YOLOAnchorGenerator")
        return {
            "_target_": "samebox.networks.blocks.anchors.SizedAnchors",
            "strides": generator.integers("strides"),
            "sides": generator.nested_numbers("base_sizes"),
        }
