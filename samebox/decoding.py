"""How a network's answer is read, where the source frameworks differ."""

from dataclasses import dataclass
from typing import Any

from samebox.errors import SameboxError

# How masks over boxes come onto the image; see `samebox.masks`
PASTES = ("sampled", "resized")


@dataclass(frozen=True)
class Decoding:
    """The rules by which outputs become detections, a field each; they travel with the network.

    `masks`: "sampled" at the centres of pixels (MMDetection, detectron2), or "resized" to whole pixels
    (maskrcnn-benchmark).
    """

    masks: str = "sampled"

    def __post_init__(self) -> None:
        """Raises SameboxError for a rule that there is not."""
        if self.masks not in PASTES:
            raise SameboxError(f"decoding.masks: {self.masks!r} is none of {', '.join(PASTES)}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Decoding":
        """The rules as a config or a file's metadata gives them; absent ones are MMDetection's."""
        return cls(**values)


MMDETECTION = Decoding()
