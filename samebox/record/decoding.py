"""The rules by which outputs become detections, if the source frameworks differ in them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from samebox.core.errors import SameboxError
from samebox.core.typed import from_json

# The rules by name; samebox.postprocess implements them
MASKS = ("sampled", "resized")
KEYPOINTS = ("ratio", "logit")


@dataclass(frozen=True)
class PanopticRule:
    """How objects and the class of every pixel become segments, see `samebox.postprocess.panoptic`.

    `stuff_class_names` name the stuff classes of the output `semantics`, from index 1 on. `score` is the
    least score of an object, `overlap` the largest share of its mask that objects of higher score may cover,
    and `stuff_area` the least number of pixels of a stuff class.
    """

    stuff_class_names: tuple[str, ...]
    score: float = 0.5
    overlap: float = 0.5
    stuff_area: int = 4096

    def __post_init__(self) -> None:
        """Raises SameboxError for a negative limit."""
        for name in ("score", "overlap", "stuff_area"):
            if getattr(self, name) < 0:
                raise SameboxError(f"decoding.panoptic.{name}: {getattr(self, name)} is below 0")


@dataclass(frozen=True)
class Decoding:
    """The rules by which outputs become detections. They travel with the network.

    `masks`: "sampled" at the centres of pixels (MMDetection, detectron2), or "resized" to whole pixels
    (maskrcnn-benchmark). `keypoints`: how keypoints are scored, by the "ratio" of exponentials (detectron2)
    or by the "logit" (maskrcnn-benchmark). `inclusive`: whether coordinates count whole pixels, see
    `Detections`. `panoptic`: the rule of a network with the output `semantics`.
    """

    masks: str = "sampled"
    keypoints: str = "ratio"
    inclusive: bool = False
    panoptic: PanopticRule | None = None

    def __post_init__(self) -> None:
        """Raises SameboxError for an unknown rule."""
        if self.masks not in MASKS:
            raise SameboxError(f"decoding.masks: {self.masks!r} is not one of {', '.join(MASKS)}")
        if self.keypoints not in KEYPOINTS:
            raise SameboxError(f"decoding.keypoints: {self.keypoints!r} is not one of {', '.join(KEYPOINTS)}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Decoding":
        """The rules in a config; the default of each is MMDetection's. Raises SameboxError for others."""
        try:
            return from_json(cls, values)
        except ValueError as error:
            raise SameboxError(f"decoding: {error}; see docs/onnx-file.md") from None


MMDETECTION = Decoding()
