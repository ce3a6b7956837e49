"""Run the chain for every combination of values.

Each point leaves a record in WORK/NAME/points and updates the page WORK/NAME/sweep.html. The same command run
again measures only the points that are missing.

Usage: samebox sweep -m [KEY=VALUE,VALUE,… …] [hydra/launcher=joblib]

Examples:
    samebox sweep -m export.opset=11,16,18 export.lowering=portable,onnx sweep.name=opsets
    samebox sweep -m 'runtimes=[torch,int8]' precision.method=percentile,minmax precision.count=8,32
    samebox sweep -m detector=retinanet_shapes export.shape=256x384,320x480 hydra/launcher=joblib
"""

import hashlib
import json
import platform
import re
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from pipelines import commands
from pipelines.chain import chain
from samebox.coco.evaluated import EvaluatedForm
from samebox.comparing.comparison import Comparison, Intervals
from samebox.core.environment import hardware
from samebox.core.errors import SameboxError
from samebox.core.text import print_text
from samebox.core.versions import versions
from samebox.reporting import text
from samebox.reporting.sweep_page import write_overview
from samebox.reporting.sweep_points import Point, point_path, read_point, read_points, write_point
from samebox.tracking.sweep_runs import SweepForm, finish_sweep_run, open_sweep_run, track_point
from stages.compared import compared
from stages.compose import check, compose, hydra_message, plain
from stages.search import CONF, choices
from stages.sections import gate, table
from stages.track import flat_config, tags

# The sections whose keys are parameters in MLflow: all detectors have the same keys there
PARAMETERS = ("export", "simplify", "precision", "engine", "evaluate", "differences", "compare")
# The sections and keys that only state where things are
LOCATION_KEYS = ("paths", "work", "sweep")


@hydra.main(config_path=str(CONF), config_name="sweep", version_base="1.3")
def sweep(config: DictConfig) -> None:
    """Measure one point. An error is recorded, and the other points are still measured."""
    overrides = HydraConfig.get().overrides.task
    run(config, [override for override in overrides if not override.startswith("sweep.")])


def run(config: DictConfig, overrides: Sequence[str]) -> None:
    """Write the record of the point with these overrides, unless the point was measured before."""
    folder = folder_of(config)
    path = point_path(folder, digest(sorted(overrides)))
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not (path.exists() and is_measured(config, path)):
            point = tracked(config, path.stem, measure(config, overrides))
            write_point(path, point)
            print_point(point)
            write_overview(folder)


def is_measured(config: DictConfig, path: Path) -> bool:
    """True if the point was measured with the same config, versions and hardware."""
    point = read_point(path)
    return point.measured and point.key == content_key(config)


def measure(config: DictConfig, overrides: Sequence[str]) -> Point:
    """The point, with the forms that were evaluated and, after an error, its message."""
    began = time.time()
    forms: list[EvaluatedForm] = []
    intervals: Intervals = {}
    status, reason = "failed", None
    try:
        for form in chain(config, config.runtimes):
            forms.append(form)  # noqa: PERF402 - those before a failure count
        comparison = table(config, compared(config, forms))
        status, reason, intervals = "measured", gate_error(config, comparison), comparison.intervals
    except SameboxError as error:
        reason = str(error)
    except (HydraException, OmegaConfBaseException) as error:
        reason = hydra_message(error)
    except Exception as error:  # a defect must not end the other points
        traceback.print_exc()
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return Point(
        key=content_key(config),
        axes=list(config.sweep.axes),
        overrides=list(overrides),
        status=status,
        reason=reason,
        forms=[form.metrics for form in forms],
        intervals=intervals,
        began=began,
        ended=time.time(),
        host=platform.node(),
    )


def gate_error(config: DictConfig, comparison: Comparison) -> str | None:
    """The error of the gate; None if no form loses more AP than allowed."""
    try:
        gate(config).check(comparison)
    except SameboxError as error:
        return str(error)
    return None


def tracked(config: DictConfig, identity: str, point: Point) -> Point:
    """The point, after its forms were recorded in MLflow; it has failed if MLflow does not accept them."""
    try:
        track(config, identity, point)
    except SameboxError as error:
        return replace(point, status="failed", reason=str(error))
    return point


def track(config: DictConfig, identity: str, point: Point) -> None:
    """Record the forms at a point as runs in MLflow, nested under the run of the sweep."""
    store = f"sqlite:///{config.paths.store}"
    values = plain(config)
    parameters = {group: values[group] for group in PARAMETERS}
    names = {group: values[group]["name"] for group in ("detector", "dataset")}
    metrics = {form["runtime"]: form for form in point.forms}
    deltas = {row.runtime: row.deltas for row in point.comparison.rows} if point.comparison else {}
    track_point(
        open_sweep_run(folder_of(config).name, store=store, tags=tags()),
        identity,
        [
            SweepForm(runtime, metrics.get(runtime), point.reason, deltas.get(runtime, {}))
            for runtime in config.runtimes
        ],
        store=store,
        key=point.key,
        title=title(point),
        params={**dict(flat_config(parameters)), **names, **point.values},
        config=dict(flat_config(values)),
        tags=tags(),
    )


def print_point(point: Point) -> None:
    """Print the table of a point, and the reason if it failed."""
    print_text(title(point))
    if point.comparison is not None:
        print_text(text.text(point.comparison))
    if point.reason:
        print_text(f"{point.status}: {point.reason}")


def title(point: Point) -> str:
    """The point's values on one line."""
    return " ".join(f"{key}={value}" for key, value in point.values.items())


def content_key(config: DictConfig) -> str:
    """A hash of the config, the versions and the hardware; samebox's own source is not part of it."""
    values = {name: value for name, value in plain(config).items() if name not in LOCATION_KEYS}
    files = [path for group in ("runtime", "precision") for path in choices(group).values()]
    return digest([values, [path.read_text() for path in files], versions(), hardware()])


def digest(value: Any) -> str:
    """A hash of 16 hexadecimal digits of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def folder_of(config: DictConfig) -> Path:
    """The folder of the sweep's page and of the records of its points."""
    return Path(config.work) / config.sweep.name


def sweep_overrides(overrides: Sequence[str]) -> list[str]:
    """The overrides of `sweep` for each point: the keys that vary, and a name if none is given.

    The name has those keys and a hash of the overrides, so that the same command has the same name.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    axes = [override.key_or_group for override in parsed if override.is_sweep_override()]
    added = [f"sweep.axes=[{','.join(axes)}]"]
    if not any(override.key_or_group == "sweep.name" for override in parsed):
        short = [axis.rpartition(".")[2] for axis in axes]
        inputs = [override for override in parsed if not override.key_or_group.startswith(LOCATION_KEYS)]
        lines = sorted(str(override.input_line) for override in inputs)
        added.append(f"sweep.name={'-'.join([*short, digest(lines)[:8]])}")
    return added


def sweep_config(overrides: Sequence[str]) -> DictConfig:
    """The config that all points share. Raises SameboxError for a name that a folder cannot have."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    shared = [str(override.input_line) for override in parsed if not override.is_sweep_override()]
    config = compose("sweep", shared)
    if not re.fullmatch(r"[\w-][\w.-]*", str(config.sweep.name)):
        raise SameboxError(f"sweep.name: {config.sweep.name!r}: use only letters, digits, - . and _")
    return config


def finish(config: DictConfig, run: str, store: str) -> None:
    """Record the page in MLflow, and print its path. Raises SameboxError if a point has failed."""
    folder = folder_of(config)
    points = read_points(folder)
    if not points:  # the command line asked Hydra for something else, such as --cfg
        return
    write_overview(folder)  # a process that was killed after its last point has not written it
    failed = sum(not point.measured for point in points)
    files = [folder / f"sweep.{suffix}" for suffix in ("html", "csv", "json")]
    finish_sweep_run(run, store=store, files=files, points=len(points), failed=failed)
    print_text(f"page: {files[0]}")
    if failed:
        raise SameboxError(f"{failed} of {len(points)} points failed; {files[0]} states the reasons")


def main() -> None:
    """Check the command line, which Hydra reports in many lines, run Hydra, and finish the sweep."""
    overrides = [argument for argument in sys.argv[1:] if "=" in argument]
    multirun = {"-m", "--multirun"}.intersection(sys.argv)
    (check if multirun else compose)("sweep", overrides)
    own = [override for override in overrides if not override.startswith("hydra")]
    added = sweep_overrides(own)
    config = sweep_config([*own, *added])
    sys.argv += added
    store = f"sqlite:///{config.paths.store}"
    run = open_sweep_run(config.sweep.name, store=store, tags=tags())
    sweep()
    finish(config, run, store)


if __name__ == "__main__":
    commands.sweep()
