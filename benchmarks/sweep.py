"""Twelve points as one sweep, and each of them as a run of its own: what sharing steps saves.

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

# How to calibrate int8 for ONNX Runtime, at two opsets
AXES = {
    "export.opset": ("16", "18"),
    "precision.method": ("percentile", "minmax"),
    "precision.count": ("8", "16", "32"),
}
# A loss beyond the limit would end a run of its own with an error, and in a sweep mark the point
FIXED = (
    "detector=retinanet_shapes",
    "export.lowering=onnx",
    "runtimes=[torch,int8]",
    "evaluate.batches=[1]",
    "compare.max_ap_drop_of.int8=100",
)
IMAGES = 40
# The folders under `work` that hold a step, and what they are called here
STEPS = {"onnx": "export", "simplified": "simplify", "int8": "int8", "evaluated": "evaluate"}
# One thread: threads that wait for a core would count as work
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Cost:
    """Seconds that passed, and seconds that the processors worked for the command and its children."""

    wall: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.wall + other.wall, self.cpu + other.cpu)


def cost(command: Sequence[str]) -> Cost:
    """What a command costs. Raises SameboxError, with its last line, where it fails."""
    before, began = _children(), time.perf_counter()
    done = subprocess.run(
        command, cwd=CONF.parent, env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False
    )
    spent = Cost(time.perf_counter() - began, _children() - before)
    if done.returncode:
        last = (done.stderr.strip() or "nothing said").splitlines()[-1]
        raise SameboxError(f"{' '.join(command)} ended with exit code {done.returncode}: {last}")
    return spent


def _children() -> float:
    """The CPU seconds of the processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def points() -> Iterator[list[str]]:
    """The overrides of each point of the sweep."""
    for values in product(*AXES.values()):
        yield [f"{key}={value}" for key, value in zip(AXES, values, strict=True)]


def subset(images: int, path: Path) -> str:
    """The override for so many of the demo's images, evenly spread; their annotations go to `path`."""
    document = read_json(CONF.parent / compose("chain").dataset.annotations)
    at = np.linspace(0, len(document["images"]) - 1, images).round().astype(int)
    document["images"] = [document["images"][index] for index in at]
    kept = {image["id"] for image in document["images"]}
    document["annotations"] = [one for one in document["annotations"] if one["image_id"] in kept]
    write_json(path, document)
    return f"dataset.annotations={path}"


def done(works: Sequence[Path]) -> dict[str, list[str]]:
    """By step, the hash of each time it was done under these folders, with repetitions."""
    return {
        step: sorted(path.name for work in works for path in (work / step).glob("*") if path.is_dir())
        for step in STEPS
    }


def measured(folder: Path) -> list[Sheet]:
    """What the sweep and the runs of their own cost and did; half of the runs come before it, half after.

    So what else the machine does falls on both alike. Raises SameboxError where they did not do the same
    work.
    """
    fixed = [*FIXED, subset(IMAGES, folder / "annotations.json")]
    sweep, separate = Cost(), Cost()
    asked = list(points())
    works = [folder / f"point{index}" for index in range(len(asked))]
    for index, (overrides, work) in enumerate(zip(asked, works, strict=True)):
        if index == len(asked) // 2:
            axes = [f"{key}={','.join(values)}" for key, values in AXES.items()]
            sweep = cost(command("sweep", folder / "sweep", "sweep.db", [*fixed, *axes], "-m"))
            print(f"sweep of {len(asked)} points: {sweep.wall:.0f} s, CPU {sweep.cpu:.0f} s")
        one = cost(command("chain", work, "separate.db", [*fixed, *overrides]))
        print(f"{' '.join(overrides)}: {one.wall:.0f} s, CPU {one.cpu:.0f} s")
        separate += one
    shared, alone = done([folder / "sweep"]), done(works)
    if differing := [step for step in STEPS if shared[step] != sorted(set(alone[step]))]:
        raise SameboxError(f"{folder}: the sweep and the runs of their own differ in {', '.join(differing)}")
    return [costs(sweep, separate, len(asked)), shares(shared, alone)]


def command(pipeline: str, work: Path, store: str, overrides: Sequence[str], *flags: str) -> list[str]:
    """The command line of a pipeline that works in `work`, with a store of MLflow's beside it."""
    places = [f"work={work}", f"paths.store={work.parent / store}"]
    return [sys.executable, "-m", f"pipelines.{pipeline}", *flags, *overrides, *places]


def costs(sweep: Cost, separate: Cost, count: int) -> Sheet:
    """What both cost, and the ratio."""
    rows = [
        [f"one sweep of {count} points", f"{sweep.wall:.0f}", f"{sweep.cpu:.0f}"],
        [f"{count} runs of their own", f"{separate.wall:.0f}", f"{separate.cpu:.0f}"],
        ["sweep / runs", f"{sweep.wall / separate.wall:.2f}", f"{sweep.cpu / separate.cpu:.2f}"],
    ]
    return Sheet("Seconds", ["", "wall", "CPU"], rows)


def shares(sweep: Mapping[str, Sequence[str]], separate: Mapping[str, Sequence[str]]) -> Sheet:
    """How often each step was done."""
    rows = [[told, str(len(sweep[step])), str(len(separate[step]))] for step, told in STEPS.items()]
    return Sheet("Times that a step was done", ["step", "in the sweep", "in runs of their own"], rows)


def notes() -> list[str]:
    """How the figures came about."""
    axes = " ".join(f"{key}={','.join(values)}" for key, values in AXES.items())
    return [
        f"`python -m pipelines.sweep -m {' '.join([*FIXED, axes])}`, one point after the other, against "
        "`python -m pipelines.chain` for each point in a folder of its own; half of the runs came before the "
        "sweep, half after it.",
        f"Scored on {IMAGES} of the 200 images of demo/shapes, evenly spread, at batch 1. More images make "
        "evaluation weigh more and exports less.",
        "CPU seconds are those of the commands and all their children, user and system. What else ran on "
        "the machine stretches wall seconds; CPU seconds are the figure to rely on.",
        f"{json.dumps(ENVIRONMENT).strip('{}')}, for PyTorch and ONNX Runtime alike.",
        "The forms of both were made of and scored under the same hashes, which the benchmark asserts.",
        "Not shared: the trace between opsets. An export traces once for itself and is then converted.",
    ]


def main() -> None:
    """Measure, print, and write down."""
    with tempfile.TemporaryDirectory(prefix="samebox-sweep-") as folder:
        sheets = measured(Path(folder))
    show(sheets)
    write("sweep", "A sweep and runs of their own", sheets, notes())


if __name__ == "__main__":
    guarded(main)
