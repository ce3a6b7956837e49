"""The shapes that an engine serves."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from samebox.core.errors import SameboxError
from samebox.record.preprocess import Preprocess

# Height and width assumed for images that no rule resizes: the largest of COCO
UNRESIZED = (480, 640)


@dataclass(frozen=True)
class Profile:
    """(least, usual, largest) batch, height and width that an engine serves; it is tuned for the usual."""

    batch: tuple[int, int, int]
    height: tuple[int, int, int]
    width: tuple[int, int, int]

    def __post_init__(self) -> None:
        """Raises SameboxError where a triple is not 1 <= least <= usual <= largest."""
        for name, values in asdict(self).items():
            ordered = len(values) == 3 and 1 <= values[0] <= values[1] <= values[2]
            if not ordered:
                raise SameboxError(
                    f"profile.{name}={list(values)}: give [least, usual, largest] in that order, from 1 up"
                )
            object.__setattr__(self, name, tuple(values))  # a configuration gives lists

    def within(self, dimensions: Sequence[int], onnx_file: Path) -> "Profile":
        """The profile for a graph whose `images` have `dimensions` [batch,3,height,width], -1 being dynamic.

        A fixed dimension replaces its range. Raises SameboxError where it lies outside it.
        """
        fixed = dict(zip(("batch", "height", "width"), (dimensions[0], *dimensions[2:]), strict=True))
        narrowed = asdict(self)
        for name, value in fixed.items():
            least, _, largest = narrowed[name]
            if value > 0 and not least <= value <= largest:
                raise SameboxError(
                    f"{onnx_file}: its {name} is fixed at {value}, outside profile.{name}={least}..{largest};"
                    " change the profile, or export it dynamic"
                )
            if value > 0:
                narrowed[name] = (value, value, value)
        return Profile(**narrowed)

    def check(self, shape: Sequence[int]) -> None:
        """Raises SameboxError where images of `shape` [batch,3,height,width] are outside the profile."""
        ranges = (self.batch, (3, 3, 3), self.height, self.width)
        served = len(shape) == 4 and all(r[0] <= d <= r[2] for d, r in zip(shape, ranges, strict=True))
        if not served:
            raise SameboxError(
                f"images of shape {list(shape)} are outside the engine's profile: "
                f"batch {_range(self.batch)}, height {_range(self.height)}, width {_range(self.width)}; "
                "build an engine for them"
            )

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        """The least, usual and largest shape of the input `name`, images or sizes."""
        triples = zip(self.batch, self.height, self.width, strict=True)
        return [(b, 3, h, w) if name == "images" else (b, 2) for b, h, w in triples]


def _range(triple: tuple[int, int, int]) -> str:
    return f"{triple[0]}..{triple[2]}"


def canvas_ranges(rule: Preprocess) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """(least, usual, largest) height and width of the canvases that a preprocessing rule gives.

    Images may be portrait or landscape, so both sides reach the larger limit; the usual canvas is landscape.
    """
    if rule.canvas:
        height, width = rule.canvas
        return (height, height, height), (width, width, width)
    sides = rule.resize.scale if rule.resize else UNRESIZED
    least, short, long = (rule.rounded(side) for side in (1, *sorted(sides)))
    return (least, short, long), (least, long, long)
