"""How a network's answer is read, where the source frameworks differ."""

from dataclasses import dataclass
from typing import Any

from samebox.core.errors import SameboxError

# The rules by name; samebox.postprocess implements them
MASKS = ("sampled", "resized")
KEYPOINTS = ("ratio", "logit")


@dataclass(frozen=True)
class PanopticRule:
    """How objects and the class of every pixel become segments; see `samebox.postprocess.panoptic`.

    `stuff_class_names` name the classes of the network's semantics, from 1 on. `score`: the least of an
    object, `overlap`: the largest share of its mask that better objects may have, `stuff_area`: the least
    pixels of a class of stuff.
    """

    stuff_class_names: tuple[str, ...]
    score: float = 0.5
    overlap: float = 0.5
    stuff_area: int = 4096


@dataclass(frozen=True)
class Decoding:
    """The rules by which outputs become detections, a field each; they travel with the network.

    `masks`: "sampled" at the centres of pixels (MMDetection, detectron2), or "resized" to whole pixels
    (maskrcnn-benchmark). `keypoints`: their score, the "ratio" of exponentials (detectron2) or the "logit"
    (maskrcnn-benchmark). `inclusive`: whether coordinates count whole pixels, see `Detections`.
    `panoptic`: of a network that gives semantics.
    """

    masks: str = "sampled"
    keypoints: str = "ratio"
    inclusive: bool = False
    panoptic: PanopticRule | None = None

    def __post_init__(self) -> None:
        """Raises SameboxError for a rule that there is not."""
        if self.masks not in MASKS:
            raise SameboxError(f"decoding.masks: {self.masks!r} is none of {', '.join(MASKS)}")
        if self.keypoints not in KEYPOINTS:
            raise SameboxError(f"decoding.keypoints: {self.keypoints!r} is none of {', '.join(KEYPOINTS)}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Decoding":
        """The rules as a config or a file's metadata gives them; absent ones are MMDetection's."""
        rule = values.get("panoptic")
        if rule is not None:
            names = tuple(rule["stuff_class_names"])
            values = values | {"panoptic": PanopticRule(**rule | {"stuff_class_names": names})}
        return cls(**values)


MMDETECTION = Decoding()
