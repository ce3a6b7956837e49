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

# The parts of the configuration that every detector has alike; whose keys are the parameters in MLflow
PARAMETERS = ("export", "simplify", "precision", "engine", "evaluate", "differences", "compare")
# … and what is about places alone
PLACES = ("paths", "work", "sweep")


@hydra.main(config_path=str(CONF), config_name="sweep", version_base="1.3")
def sweep(config: DictConfig) -> None:
    """One point. A mistake in it is recorded, and the others go on."""
    overrides = [text for text in HydraConfig.get().overrides.task if not text.startswith("sweep.")]
    run(config, overrides)


def run(config: DictConfig, overrides: Sequence[str]) -> None:
    """Leave the record of the point that `overrides` make, unless it was measured before."""
    folder = folder_of(config)
    path = point_path(folder, digest(sorted(overrides)))
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not (path.exists() and done(config, path)):
            point = recorded(config, path.stem, reached(config, overrides))
            write_point(path, point)
            show(point)
            write_overview(folder)


def done(config: DictConfig, path: Path) -> bool:
    """Whether the point was measured, of the same configuration, versions and hardware."""
    point = read_point(path)
    return point.measured and point.key == key(config)


def reached(config: DictConfig, overrides: Sequence[str]) -> Point:
    """How far the chain came at a point, with the reason if that is not its end."""
    began = time.time()
    forms: list[EvaluatedForm] = []
    intervals: Intervals = {}
    status, reason = "failed", None
    try:
        for form in chain(config, config.runtimes):
            forms.append(form)  # noqa: PERF402 - those before a failure count
        comparison = table(config, compared(config, forms))
        status, reason, intervals = "measured", verdict(config, comparison), comparison.intervals
    except SameboxError as error:
        reason = str(error)
    except (HydraException, OmegaConfBaseException) as error:
        reason = hydra_message(error)
    except Exception as error:  # a defect, which is no reason to keep the other points from going on
        traceback.print_exc()
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return Point(
        key=key(config),
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


def verdict(config: DictConfig, comparison: Comparison) -> str | None:
    """Which form loses more AP than allowed, None where none does."""
    try:
        gate(config).check(comparison)
    except SameboxError as error:
        return str(error)
    return None


def recorded(config: DictConfig, identity: str, point: Point) -> Point:
    """The point, its forms recorded in MLflow; one that failed where MLflow refuses."""
    try:
        track(config, identity, point)
    except SameboxError as error:
        return replace(point, status="failed", reason=str(error))
    return point


def track(config: DictConfig, identity: str, point: Point) -> None:
    """Record the forms at a point as runs in MLflow, under the sweep's own."""
    store = f"sqlite:///{config.paths.store}"
    values = plain(config)
    parameters = {group: values[group] for group in PARAMETERS}
    names = {group: values[group]["name"] for group in ("detector", "dataset")}
    metrics = {form["runtime"]: form for form in point.forms}
    deltas = {row.runtime: row.deltas for row in point.comparison.rows} if point.comparison else {}
    track_point(
        open_sweep_run(folder_of(config).name, store=store, tags=tags()),
        identity,
        [SweepForm(one, metrics.get(one), point.reason, deltas.get(one, {})) for one in config.runtimes],
        store=store,
        key=point.key,
        title=title(point),
        params={**dict(flat_config(parameters)), **names, **point.values},
        config=dict(flat_config(values)),
        tags=tags(),
    )


def show(point: Point) -> None:
    """Print the table of a point, and why it failed."""
    print_text(title(point))
    if point.comparison is not None:
        print_text(text.text(point.comparison))
    if point.reason:
        print_text(f"{point.status}: {point.reason}")


def title(point: Point) -> str:
    """The point in a line."""
    return " ".join(f"{key}={value}" for key, value in point.values.items())


def key(config: DictConfig) -> str:
    """What stands for all that goes into a point; of samebox's own source nothing does."""
    values = {name: value for name, value in plain(config).items() if name not in PLACES}
    files = [path for group in ("runtime", "precision") for path in choices(group).values()]
    return digest([values, [path.read_text() for path in files], versions(), hardware()])


def digest(value: Any) -> str:
    """16 hexadecimal digits that stand for a value that JSON takes."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def folder_of(config: DictConfig) -> Path:
    """Where the page of the sweep and the records of its points lie."""
    return Path(config.work) / config.sweep.name


def named(overrides: Sequence[str]) -> list[str]:
    """The overrides that tell each point of its sweep: the keys that vary, and a name unless one is given.

    The name is made of those keys and a hash of all that was asked for: the same command has the same name.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    axes = [one.key_or_group for one in parsed if one.is_sweep_override()]
    told = [f"sweep.axes=[{','.join(axes)}]"]
    if not any(one.key_or_group == "sweep.name" for one in parsed):
        asked = sorted(str(one.input_line) for one in parsed if not one.key_or_group.startswith(PLACES))
        short = [axis.rpartition(".")[2] for axis in axes]
        told.append(f"sweep.name={'-'.join([*short, digest(asked)[:8]])}")
    return told


def sweep_of(overrides: Sequence[str]) -> DictConfig:
    """What the points of the sweep share. Raises SameboxError for a name that cannot be a folder's."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    config = compose("sweep", [str(one.input_line) for one in parsed if not one.is_sweep_override()])
    if not re.fullmatch(r"[\w-][\w.-]*", str(config.sweep.name)):
        raise SameboxError(
            f"sweep.name: {config.sweep.name!r} is not made of letters, digits, - . and _ alone"
        )
    return config


def finish(config: DictConfig, run: str, store: str) -> None:
    """Leave the page in MLflow, too, and say where it is. Raises SameboxError where points failed."""
    folder = folder_of(config)
    points = read_points(folder)
    if not points:  # Hydra was asked for something else, such as --cfg
        return
    write_overview(folder)  # a process killed after its last point left it as it was before
    failed = sum(not point.measured for point in points)
    files = [folder / f"sweep.{suffix}" for suffix in ("html", "csv", "json")]
    finish_sweep_run(run, store=store, files=files, points=len(points), failed=failed)
    print_text(f"page: {files[0]}")
    if failed:
        raise SameboxError(f"{failed} of {len(points)} points failed; {files[0]} says why")


def main() -> None:
    """Check the command line, hand it to Hydra, which would tell a mistake in many lines, and sum up."""
    overrides = [argument for argument in sys.argv[1:] if "=" in argument]
    many = {"-m", "--multirun"}.intersection(sys.argv)
    (check if many else compose)("sweep", overrides)
    asked = [text for text in overrides if not text.startswith("hydra")]
    added = named(asked)
    config = sweep_of([*asked, *added])
    sys.argv += added
    store = f"sqlite:///{config.paths.store}"
    run = open_sweep_run(config.sweep.name, store=store, tags=tags())
    sweep()
    finish(config, run, store)


if __name__ == "__main__":
    commands.sweep()
