"""MMDetection's test pipeline: resize, padding, normalization, and the classes of the test data set."""

from collections.abc import Callable, Mapping
from typing import Any

from samebox.adopt.configs.values import short_repr
from samebox.adopt.result import Diagnostics
from samebox.adopt.section import Section


def data_preprocessor(model: Section, config: Mapping[str, Any]) -> tuple[dict[str, Any] | None, int]:
    """The normalization and the divisor of the canvas, which MMDetection 3 has in the model.

    None and 1 if there is no data preprocessor: MMDetection 2 has both in the test pipeline.
    """
    if "data_preprocessor" not in model:
        if "data_preprocessor" not in config:
            return None, 1
        model.remaining["data_preprocessor"] = config["data_preprocessor"]
    with model.section("data_preprocessor") as section:
        section.choice("DetDataPreprocessor")
        section.expect("pad_value", 0)
        section.expect("rgb_to_bgr", False)
        section.ignore("pad_mask", "mask_pad_value", "pad_seg", "seg_pad_value", "batch_augments")
        section.ignore("non_blocking", "boxtype2tensor")
        channel_order = "RGB" if section.flag("bgr_to_rgb", False) else "BGR"
        return normalization(section, channel_order), section.integer("pad_size_divisor", 1)


def normalization(section: Section, channel_order: str) -> dict[str, Any]:
    """`mean` and `std`. MMDetection reads images as BGR; `channel_order` is the one that is normalized."""
    mean, std = ([float(value) for value in section.numbers(name)] for name in ("mean", "std"))
    return {"mean": mean, "std": std, "channel_order": channel_order}


def pipeline(
    config: Mapping[str, Any],
    diagnostics: Diagnostics,
    normalize: dict[str, Any] | None,
    divisor: int,
    centered: bool,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The rule that places images on the canvas, and the normalization.

    `normalize` and `divisor` are those of the data preprocessor; a transform of the pipeline replaces them.
    `centered` states that the network needs images in the middle of the canvas, as CornerNet does.
    """
    rule: dict[str, Any] = {"resize": None, "divisor": divisor, "canvas": None, "normalize": normalize}
    names = []
    for transform in transforms(config, diagnostics):
        with transform:
            names.append(transform.choice(*_READERS))
            rule |= _READERS[names[-1]](transform)
    is_centered = "RandomCenterCropPad" in names
    if is_centered != centered:
        state = "with" if is_centered else "without"
        diagnostics.unsupported.append(f"test_pipeline ({state} RandomCenterCropPad)")
    normalize = rule.pop("normalize")
    if normalize is None:
        diagnostics.unsupported.append("data_preprocessor (not given)")
    if rule["resize"] and not rule["resize"]["keep_ratio"]:
        rule["canvas"] = fixed_canvas(rule["resize"]["scale"], max(rule["divisor"], 1))
    return rule, normalize


def fixed_canvas(scale: list[int], divisor: int) -> list[int]:
    """The height and width of the canvas for images resized to `scale`, a width and a height in pixels."""
    width, height = (-(-side // divisor) * divisor for side in scale)
    return [height, width]


def transforms(config: Mapping[str, Any], diagnostics: Diagnostics) -> list[Section]:
    """The transforms of the test pipeline, including those inside MultiScaleFlipAug."""
    steps = test_pipeline(config)
    if not isinstance(steps, list):
        value = " (not given)" if steps is None else f"={short_repr(steps)}"
        diagnostics.unsupported.append(f"test_pipeline{value}")
        return []
    sections = []
    for index, step in enumerate(steps):
        section = Section(step, f"test_pipeline[{index}]", diagnostics)
        if isinstance(step, dict) and str(step.get("type")).endswith("MultiScaleFlipAug"):
            sections += multi_scale_flip(section)
        else:
            sections.append(section)
    return sections


def multi_scale_flip(section: Section) -> list[Section]:
    """The transforms that MultiScaleFlipAug applies at its single scale. Flipped images are left out."""
    with section:
        section.ignore("type", "flip_direction")
        if section.flag("flip", False):
            section.diagnostics.remarks.append("the source also tests flipped images; samebox does not")
        section.expect("scale_factor", None, 1.0)
        scale, steps = section.take("img_scale"), section.take("transforms")
    sections = []
    for index, step in enumerate(steps if isinstance(steps, list) else []):
        inner = Section(step, f"{section.path}.transforms[{index}]", section.diagnostics)
        resizes = isinstance(step, dict) and step.get("type") == "Resize"
        if resizes and scale is None:
            continue
        if resizes:
            inner.remaining = {"keep_ratio": True, **inner.remaining, "scale": scale}
        sections.append(inner)
    return sections


def test_pipeline(config: Mapping[str, Any]) -> Any:
    """The pipeline of the test data set, or else the name `test_pipeline`."""
    for dataset in datasets(config):
        if "pipeline" in dataset:
            return dataset["pipeline"]
    return config.get("test_pipeline")


def datasets(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The test and validation data sets of MMDetection 3 and 2, without data sets that wrap them."""
    loaders = [config.get(name) for name in ("test_dataloader", "val_dataloader")]
    candidates = [loader.get("dataset") for loader in loaders if isinstance(loader, Mapping)]
    data = config.get("data")
    if isinstance(data, Mapping):
        candidates += [data.get("test"), data.get("val")]
    unwrapped = []
    for dataset in candidates:
        while isinstance(dataset, Mapping) and isinstance(dataset.get("dataset"), Mapping):
            dataset = dataset["dataset"]
        if isinstance(dataset, Mapping):
            unwrapped.append(dataset)
    return unwrapped


def no_change(transform: Section) -> dict[str, Any]:
    """A transform that does not change pixels; `multi_scale_flip` reports flips."""
    transform.expect("imdecode_backend", None, "cv2")
    transform.expect("color_type", "color", "unchanged")
    transform.ignore_rest()
    return {}


def resize(transform: Section) -> dict[str, Any]:
    """The scale as width and height in pixels. With `keep_ratio` the order of the two has no effect."""
    if "img_scale" in transform:
        transform.remaining["scale"] = transform.take("img_scale")
    scale = transform.take("scale")
    if isinstance(scale, list) and len(scale) == 1:
        scale = scale[0]
    transform.remaining["scale"] = scale
    sides = transform.integers("scale")
    if len(sides) != 2:
        transform.reject("scale", scale)
        sides = [1, 1]
    keep_ratio = transform.flag("keep_ratio", False)
    transform.expect("interpolation", "bilinear")
    transform.expect("backend", "cv2")
    transform.expect("multiscale_mode", "range", "value")  # only with several scales
    transform.ignore("clip_object_border", "bbox_clip_border", "override")
    scale = sorted(sides, reverse=True) if keep_ratio else sides
    return {"resize": {"scale": scale, "keep_ratio": keep_ratio, "fit": False}}


def normalize_transform(transform: Section) -> dict[str, Any]:
    """The normalization, with RGB or BGR channels."""
    channel_order = "RGB" if transform.flag("to_rgb", True) else "BGR"
    return {"normalize": normalization(transform, channel_order)}


def pad(transform: Section) -> dict[str, Any]:
    """The divisor of the canvas. Padding other than 0 is rejected."""
    transform.expect("pad_val", 0, {"img": 0}, {"img": [0, 0, 0]})
    return {"divisor": transform.integer("size_divisor")}


def center_crop_pad(transform: Section) -> dict[str, Any]:
    """The canvas on which CornerNet centers an image: its sides, with some low bits set to 1."""
    transform.require("test_mode", True)
    transform.expect("test_pad_add_pix", 0)
    transform.ignore("crop_size", "ratios", "border", "mean", "std", "to_rgb", "bbox_clip_border")
    mode = transform.take("test_pad_mode")
    bits = mode[1] if isinstance(mode, list) and len(mode) == 2 and mode[0] == "logical_or" else None
    if not isinstance(bits, int) or bits < 1 or bits & (bits + 1):
        transform.reject("test_pad_mode", mode)
        return {}
    return {"divisor": bits + 1, "less": 1}


# The type of a transform → the reader of what it changes in the rule
_READERS: dict[str, Callable[[Section], dict[str, Any]]] = {
    "LoadImageFromFile": no_change,
    "LoadAnnotations": no_change,
    "RandomFlip": no_change,
    "ImageToTensor": no_change,
    "ToTensor": no_change,
    "DefaultFormatBundle": no_change,
    "Collect": no_change,
    "PackDetInputs": no_change,
    "Resize": resize,
    "Normalize": normalize_transform,
    "Pad": pad,
    "RandomCenterCropPad": center_crop_pad,
}


def class_names(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The classes of the test data set, if the config names them."""
    for dataset in datasets(config):
        meta = dataset.get("metainfo")
        for holder in (meta if isinstance(meta, Mapping) else {}, dataset):
            for key in ("classes", "CLASSES"):
                names = holder.get(key)
                if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
                    return tuple(names)
    return None
