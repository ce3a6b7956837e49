"""The rules by which outputs become detections, if the source frameworks differ in them."""

from dataclasses import dataclass
from typing import Any

from samebox.core.errors import SameboxError

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
    def from_dict(cls, values: dict[str, Any]) -> "Decoding":
        """The rules in a config or a file's metadata; the default of each is MMDetection's."""
        rule = values.get("panoptic")
        if rule is not None:
            names = tuple(rule["stuff_class_names"])
            values = values | {"panoptic": PanopticRule(**rule | {"stuff_class_names": names})}
        return cls(**values)


MMDETECTION = Decoding()
