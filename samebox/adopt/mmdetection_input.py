"""How MMDetection's test pipeline brings images onto the canvas, and what it says of classes."""

from collections.abc import Mapping
from typing import Any

from samebox.adopt.literal import short
from samebox.adopt.section import Findings, Section

# Transforms that leave the pixels as they are; for flips see `multi_scale_flip`
_NO_CHANGE = (
    "LoadImageFromFile",
    "LoadAnnotations",
    "RandomFlip",
    "ImageToTensor",
    "ToTensor",
    "DefaultFormatBundle",
    "Collect",
    "PackDetInputs",
)


def data_preprocessor(model: Section, config: Mapping[str, Any]) -> tuple[dict[str, Any] | None, int]:
    """The normalisation and the divisor of the canvas; the third generation has them in the model."""
    if "data_preprocessor" not in model:
        if "data_preprocessor" not in config:
            return None, 1
        model.left["data_preprocessor"] = config["data_preprocessor"]
    with model.section("data_preprocessor") as held:
        held.kind("DetDataPreprocessor")
        held.only("pad_value", 0)
        held.only("rgb_to_bgr", False)
        held.skip("pad_mask", "mask_pad_value", "pad_seg", "seg_pad_value", "batch_augments", "non_blocking")
        held.skip("boxtype2tensor")
        order = "RGB" if held.flag("bgr_to_rgb", False) else "BGR"
        return normalization(held, order), held.whole("pad_size_divisor", 1)


def normalization(section: Section, order: str) -> dict[str, Any]:
    """`mean` and `std`; images are read as BGR, so that `order` is RGB where the source swaps channels."""
    mean, std = ([float(value) for value in section.numbers(name)] for name in ("mean", "std"))
    return {"mean": mean, "std": std, "channel_order": order}


def pipeline(
    config: Mapping[str, Any],
    findings: Findings,
    normalize: dict[str, Any] | None,
    divisor: int,
    centred: bool,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The rule by which images come onto the canvas, and the normalisation, which may stand there too.

    `centred`: the network itself puts images into the middle of a canvas, as CornerNet does.
    """
    rule: dict[str, Any] = {"resize": None, "divisor": divisor, "canvas": None}
    padded = False
    for transform in transforms(config, findings):
        with transform:
            kind = transform.kind(*_NO_CHANGE, "Resize", "Normalize", "Pad", "RandomCenterCropPad")
            if kind in _NO_CHANGE:
                transform.only("imdecode_backend", None, "cv2")
                transform.only("color_type", "color", "unchanged")
                transform.left.clear()
            elif kind == "Resize":
                rule["resize"] = resize(transform)
            elif kind == "Normalize":
                normalize = normalization(transform, "RGB" if transform.flag("to_rgb", True) else "BGR")
            elif kind == "Pad":
                transform.only("pad_val", 0, {"img": 0}, {"img": [0, 0, 0]})
                rule["divisor"] = transform.whole("size_divisor")
            else:
                rule |= center_crop_pad(transform)
                padded = True
    if padded != centred:
        findings.unsupported.append(f"test_pipeline: RandomCenterCropPad={padded}")
    if normalize is None:
        findings.unsupported.append("data_preprocessor (not given)")
    if rule["resize"] and not rule["resize"]["keep_ratio"]:
        unit = max(rule["divisor"], 1)
        across, down = (-(-side // unit) * unit for side in rule["resize"]["scale"])
        rule["canvas"] = [down, across]
    return rule, normalize


def transforms(config: Mapping[str, Any], findings: Findings) -> list[Section]:
    """The steps of the test pipeline, those inside a MultiScaleFlipAug among them."""
    held = test_pipeline(config)
    if not isinstance(held, list):
        what = " (not given)" if held is None else f"={short(held)}"
        findings.unsupported.append(f"test_pipeline{what}")
        return []
    found = []
    for index, step in enumerate(held):
        section = Section(step, f"test_pipeline[{index}]", findings)
        if isinstance(step, dict) and str(step.get("type")).endswith("MultiScaleFlipAug"):
            found += multi_scale_flip(section)
        else:
            found.append(section)
    return found


def multi_scale_flip(section: Section) -> list[Section]:
    """The steps that MultiScaleFlipAug takes at its one scale; flipped images are left out."""
    with section:
        section.skip("type", "flip_direction")
        if section.flag("flip", False):
            section.findings.remarks.append("the source tests images flipped as well; here they are not")
        section.only("scale_factor", None, 1.0)
        scale, steps = section.raw("img_scale"), section.raw("transforms")
    found = []
    for index, step in enumerate(steps if isinstance(steps, list) else []):
        inner = Section(step, f"{section.path}.transforms[{index}]", section.findings)
        resizes = isinstance(step, dict) and step.get("type") == "Resize"
        if resizes and scale is None:
            continue
        if resizes:
            inner.left = {"keep_ratio": True, **inner.left, "scale": scale}
        found.append(inner)
    return found


def test_pipeline(config: Mapping[str, Any]) -> Any:
    """The list of transforms: that of the data set to test on, else the name `test_pipeline`."""
    for dataset in datasets(config):
        if "pipeline" in dataset:
            return dataset["pipeline"]
    return config.get("test_pipeline")


def datasets(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The data sets to test and to validate on, of either generation, unwrapped."""
    data = config.get("data")
    old = [data.get("test"), data.get("val")] if isinstance(data, Mapping) else []
    loaders = [config.get(name) for name in ("test_dataloader", "val_dataloader")]
    found = []
    for held in [*(loader.get("dataset") for loader in loaders if isinstance(loader, Mapping)), *old]:
        while isinstance(held, Mapping) and isinstance(held.get("dataset"), Mapping):
            held = held["dataset"]
        if isinstance(held, Mapping):
            found.append(held)
    return found


def resize(transform: Section) -> dict[str, Any]:
    """`scale` and `keep_ratio`. With the ratio kept the order of the scale means nothing."""
    if "img_scale" in transform:
        transform.left["scale"] = transform.raw("img_scale")
    scale = transform.raw("scale")
    if isinstance(scale, list) and len(scale) == 1:
        scale = scale[0]
    transform.left["scale"] = scale
    sides = transform.wholes("scale")
    if len(sides) != 2:
        transform.unsupported("scale", scale)
        sides = [1, 1]
    keep = transform.flag("keep_ratio", False)
    transform.only("interpolation", "bilinear")
    transform.only("backend", "cv2")
    transform.only("multiscale_mode", "range", "value")  # of several scales
    transform.skip("clip_object_border", "bbox_clip_border", "override")
    return {"scale": sorted(sides, reverse=True) if keep else sides, "keep_ratio": keep, "fit": False}


def center_crop_pad(transform: Section) -> dict[str, Any]:
    """The canvas that CornerNet's images are centred on: their sides with some low bits set."""
    transform.given("test_mode", True)
    transform.only("test_pad_add_pix", 0)
    transform.skip("crop_size", "ratios", "border", "mean", "std", "to_rgb", "bbox_clip_border")
    mode = transform.raw("test_pad_mode")
    bits = mode[1] if isinstance(mode, list) and len(mode) == 2 and mode[0] == "logical_or" else None
    if not isinstance(bits, int) or bits < 1 or bits & (bits + 1):
        transform.unsupported("test_pad_mode", mode)
        return {}
    return {"divisor": bits + 1, "less": 1}


def class_names(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The classes of the data set to test on, where the config names them."""
    for dataset in datasets(config):
        meta = dataset.get("metainfo")
        for holder in (meta if isinstance(meta, Mapping) else {}, dataset):
            for key in ("classes", "CLASSES"):
                names = holder.get(key)
                if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
                    return tuple(names)
    return None
