"""The record of each point of a sweep, a file `points/<id>.json` in the sweep's folder.

A point is one combination of values of the keys that the sweep varies.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from samebox.comparing.comparison import Comparison, Intervals
from samebox.core.errors import SameboxError
from samebox.core.files import read_json, write_json


@dataclass(frozen=True)
class Point:
    """The outcome of one combination of values.

    `axes`: the keys that the sweep varies. `overrides`: all overrides of the point, as KEY=VALUE. `key` is a
    hash of everything that determines the point. `status` is "measured" or "failed". `reason`: why the point
    failed; or, for a measured point, which form loses more AP than allowed. `forms`: the metrics.json of each
    evaluated form, the reference first. `intervals`: those of ΔAP, see
    `samebox.comparing.comparison.Comparison`. `began` and `ended` are Unix times on the machine `host`.
    """

    key: str
    axes: list[str]
    overrides: list[str]
    status: str
    reason: str | None
    forms: list[dict[str, Any]]
    intervals: Intervals
    began: float
    ended: float
    host: str

    @property
    def measured(self) -> bool:
        """Whether every form was evaluated, or has the reason why this machine cannot run it."""
        return self.status == "measured"

    @cached_property
    def values(self) -> dict[str, str]:
        """The values of the varied keys, as written, in the order of the command line."""
        by_key = dict(text.lstrip("+").split("=", 1) for text in self.overrides)
        return {axis: by_key[axis] for axis in self.axes}

    @cached_property
    def comparison(self) -> Comparison | None:
        """The table of the forms; None if the point failed before the first form."""
        return Comparison(self.forms, self.intervals) if self.forms else None


def point_path(folder: Path, identity: str) -> Path:
    """The path of the record of a point of the sweep in `folder`."""
    return folder / "points" / f"{identity}.json"


def read_point(path: Path) -> Point:
    """The point recorded at `path`. Raises SameboxError if the file is not a record."""
    try:
        return Point(**read_json(path))
    except TypeError:
        raise SameboxError(f"{path}: not the record of a point; delete it") from None


def read_points(folder: Path) -> list[Point]:
    """The points of the sweep in `folder`, sorted by their values; numbers are sorted as numbers."""
    points = [read_point(path) for path in sorted((folder / "points").glob("*.json"))]
    axes = varied_keys(points)
    return sorted(points, key=lambda point: [_sort_key(point.values.get(axis, "")) for axis in axes])


def write_point(path: Path, point: Point) -> None:
    """Write the record to `path`, whole or not at all."""
    write_json(path, asdict(point))


def varied_keys(points: Sequence[Point]) -> list[str]:
    """The keys that vary, each once, in the order of the command line."""
    return list(dict.fromkeys(axis for point in points for axis in point.values))


def _sort_key(value: str) -> tuple[int, float, str]:
    try:
        return 0, float(value), ""
    except ValueError:
        return 1, 0, value
