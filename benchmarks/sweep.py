"""Twelve points as one sweep and as twelve separate runs: the CPU time that shared steps save.

python -m benchmarks.sweep
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.common import show
from benchmarks.sheets import Sheet, write
from samebox.core.errors import SameboxError
from samebox.core.files import read_json, write_json
from stages.compose import CONF, compose, guarded

# Calibrations of int8 for ONNX Runtime, at two opsets
AXES = {
    "export.opset": ("16", "18"),
    "precision.method": ("percentile", "minmax"),
    "precision.count": ("8", "16", "32"),
}
# The limit is high because a larger loss ends a separate run with an error and marks a sweep's point
FIXED = (
    "detector=retinanet_shapes",
    "export.lowering=onnx",
    "runtimes=[torch,int8]",
    "evaluate.batches=[1]",
    "compare.max_ap_drop_of.int8=100",
)
IMAGES = 40
# Folder under `work` → the name of its step in the table
STEPS = {"onnx": "export", "simplified": "simplify", "int8": "int8", "evaluated": "evaluate"}
# One thread: threads that wait for a core count as CPU time
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Cost:
    """Wall-clock seconds, and CPU seconds of the command and its children."""

    wall: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.wall + other.wall, self.cpu + other.cpu)


def cost(command: Sequence[str]) -> Cost:
    """The cost of a command. Raises SameboxError with the last line of its error output if it fails."""
    before, began = _children(), time.perf_counter()
    done = subprocess.run(
        command, cwd=CONF.parent, env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False
    )
    spent = Cost(time.perf_counter() - began, _children() - before)
    if done.returncode:
        last = (done.stderr.strip() or "no error output").splitlines()[-1]
        raise SameboxError(f"{' '.join(command)} ended with exit code {done.returncode}: {last}")
    return spent


def _children() -> float:
    """The CPU seconds of the ended child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def points() -> Iterator[list[str]]:
    """The overrides of each point of the sweep."""
    for values in product(*AXES.values()):
        yield [f"{key}={value}" for key, value in zip(AXES, values, strict=True)]


def subset(images: int, path: Path) -> str:
    """The override for a subset of the demo's images, evenly spread; `path` gets its annotations."""
    document = read_json(CONF.parent / compose("chain").dataset.annotations)
    at = np.linspace(0, len(document["images"]) - 1, images).round().astype(int)
    document["images"] = [document["images"][index] for index in at]
    image_ids = {image["id"] for image in document["images"]}
    document["annotations"] = [one for one in document["annotations"] if one["image_id"] in image_ids]
    write_json(path, document)
    return f"dataset.annotations={path}"


def done(works: Sequence[Path]) -> dict[str, list[str]]:
    """By step, the hash of each run of it under these folders, repetitions included."""
    return {
        step: sorted(path.name for work in works for path in (work / step).glob("*") if path.is_dir())
        for step in STEPS
    }


def measured(folder: Path) -> list[Sheet]:
    """Costs and steps of the sweep and of the separate runs; half of the runs are before it, half after.

    Other load on the machine then affects both alike. Raises SameboxError if they did not do the same work.
    """
    fixed = [*FIXED, subset(IMAGES, folder / "annotations.json")]
    sweep, separate = Cost(), Cost()
    all_points = list(points())
    works = [folder / f"point{index}" for index in range(len(all_points))]
    for index, (overrides, work) in enumerate(zip(all_points, works, strict=True)):
        if index == len(all_points) // 2:
            axes = [f"{key}={','.join(values)}" for key, values in AXES.items()]
            sweep = cost(command("sweep", folder / "sweep", "sweep.db", [*fixed, *axes], "-m"))
            print(f"sweep of {len(all_points)} points: {sweep.wall:.0f} s, CPU {sweep.cpu:.0f} s")
        one = cost(command("chain", work, "separate.db", [*fixed, *overrides]))
        print(f"{' '.join(overrides)}: {one.wall:.0f} s, CPU {one.cpu:.0f} s")
        separate += one
    shared, alone = done([folder / "sweep"]), done(works)
    if differing := [step for step in STEPS if shared[step] != sorted(set(alone[step]))]:
        raise SameboxError(f"{folder}: the sweep and the separate runs differ in {', '.join(differing)}")
    return [costs(sweep, separate, len(all_points)), shares(shared, alone)]


def command(pipeline: str, work: Path, store: str, overrides: Sequence[str], *flags: str) -> list[str]:
    """The command line of a pipeline that works in `work`, with an MLflow store beside it."""
    places = [f"work={work}", f"paths.store={work.parent / store}"]
    return [sys.executable, "-m", f"pipelines.{pipeline}", *flags, *overrides, *places]


def costs(sweep: Cost, separate: Cost, count: int) -> Sheet:
    """The cost of both, and the ratio."""
    rows = [
        [f"one sweep of {count} points", f"{sweep.wall:.0f}", f"{sweep.cpu:.0f}"],
        [f"{count} separate runs", f"{separate.wall:.0f}", f"{separate.cpu:.0f}"],
        ["sweep / runs", f"{sweep.wall / separate.wall:.2f}", f"{sweep.cpu / separate.cpu:.2f}"],
    ]
    return Sheet("Seconds", ["", "wall", "CPU"], rows)


def shares(sweep: Mapping[str, Sequence[str]], separate: Mapping[str, Sequence[str]]) -> Sheet:
    """How often each step was run."""
    rows = [[name, str(len(sweep[step])), str(len(separate[step]))] for step, name in STEPS.items()]
    return Sheet("Times that a step was run", ["step", "in the sweep", "in separate runs"], rows)


def notes() -> list[str]:
    """How the figures were measured."""
    axes = " ".join(f"{key}={','.join(values)}" for key, values in AXES.items())
    return [
        f"`python -m pipelines.sweep -m {' '.join([*FIXED, axes])}`, one point after the other, against "
        "`python -m pipelines.chain` for each point in its own folder; half of the runs were before the "
        "sweep, half after it.",
        f"Scored on {IMAGES} of the 200 images of demo/shapes, evenly spread, at batch 1. More images make "
        "evaluation weigh more and exports less.",
        "CPU seconds are those of the commands and all their children, user and system. Other load on the "
        "machine stretches wall seconds; rely on CPU seconds.",
        f"{json.dumps(ENVIRONMENT).strip('{}')}, for PyTorch and ONNX Runtime alike.",
        "Both made and scored their forms under the same hashes; the benchmark asserts this.",
        "Not shared: the trace between opsets. Each export traces once and is then converted.",
    ]


def main() -> None:
    """Measure, print, and write the results."""
    with tempfile.TemporaryDirectory(prefix="samebox-sweep-") as folder:
        sheets = measured(Path(folder))
    show(sheets)
    write("sweep", "A sweep and separate runs", sheets, notes())


if __name__ == "__main__":
    guarded(main)
