"""The optimization profile: the range of shapes that an engine accepts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from samebox.core.errors import SameboxError
from samebox.record.preprocess import Preprocess

# Height and width assumed for images that are not resized: the largest in COCO
UNRESIZED = (480, 640)


@dataclass(frozen=True)
class Profile:
    """(min, opt, max) batch, height and width of an engine, which is tuned for the shape of the opt values.

    Raises SameboxError unless 1 <= min <= opt <= max for each of them.
    """

    batch: tuple[int, int, int]
    height: tuple[int, int, int]
    width: tuple[int, int, int]

    def __post_init__(self) -> None:
        for name, values in asdict(self).items():
            ordered = len(values) == 3 and 1 <= values[0] <= values[1] <= values[2]
            if not ordered:
                raise SameboxError(
                    f"profile.{name}={list(values)}: give [min, opt, max] in ascending order, from 1 up"
                )
            object.__setattr__(self, name, tuple(values))  # a configuration contains lists

    def within(self, dimensions: Sequence[int], onnx_file: Path) -> "Profile":
        """The profile for a graph whose `images` have `dimensions` [batch,3,height,width], -1 if dynamic.

        A fixed dimension replaces its range. Raises SameboxError if it lies outside that range.
        """
        fixed = dict(zip(("batch", "height", "width"), (dimensions[0], *dimensions[2:]), strict=True))
        narrowed = asdict(self)
        for name, value in fixed.items():
            low, _, high = narrowed[name]
            if value > 0 and not low <= value <= high:
                raise SameboxError(
                    f"{onnx_file}: its {name} is fixed at {value}, outside profile.{name}={low}..{high}; "
                    "change the profile, or export it with a dynamic shape"
                )
            if value > 0:
                narrowed[name] = (value, value, value)
        return Profile(**narrowed)

    def check(self, shape: Sequence[int]) -> None:
        """Raises SameboxError if images of `shape` [batch,3,height,width] are outside the profile."""
        ranges = (self.batch, (3, 3, 3), self.height, self.width)
        inside = len(shape) == 4 and all(r[0] <= d <= r[2] for d, r in zip(shape, ranges, strict=True))
        if not inside:
            raise SameboxError(
                f"images of shape {list(shape)} are outside the engine's profile: "
                f"batch {_range(self.batch)}, height {_range(self.height)}, width {_range(self.width)}; "
                "build an engine for them"
            )

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        """The min, opt and max shape of the input `name`, images or sizes."""
        triples = zip(self.batch, self.height, self.width, strict=True)
        return [(b, 3, h, w) if name == "images" else (b, 2) for b, h, w in triples]


def _range(triple: tuple[int, int, int]) -> str:
    return f"{triple[0]}..{triple[2]}"


def canvas_ranges(rule: Preprocess) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """(min, opt, max) height and (min, opt, max) width of the canvases that a preprocessing rule produces.

    Images may be portrait or landscape, so the maximum of both sides is the long one. The opt canvas is
    landscape.
    """
    if rule.canvas:
        height, width = rule.canvas
        return (height, height, height), (width, width, width)
    sides = rule.resize.scale if rule.resize else UNRESIZED
    smallest, short, long = (rule.padded_side(side) for side in (1, *sorted(sides)))
    return (smallest, short, long), (smallest, long, long)
