"""What the benchmarks share: the networks they measure, how they take turns, and what they leave."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from samebox.environment import hardware, versions
from samebox.files import write_text
from samebox.nets.contract import Deployable, Normalize
from samebox.preprocess import Batch, Image
from samebox.spec import Spec
from stages.compose import compose, plain
from stages.networks import built, preprocess

RESULTS = Path(__file__).parent / "results"


def drawn(detector: str) -> tuple[Deployable, Spec]:
    """The network of `conf/detector/<detector>.yaml`, its weights drawn from seed 0.

    Times do not depend on what the weights are, but for the candidates that they lead to. Raises
    SameboxError for a detector that `conf/` does not have.
    """
    config = compose("export", [f"detector={detector}"])
    names = tuple(config.dataset.class_names)
    OmegaConf.update(config.detector, "num_classes", len(names))
    torch.manual_seed(0)
    network = built(config.detector.network)
    draw(network)
    normalize = plain(config.detector.normalize)
    spec = Spec(config.detector.name, names, preprocess(config), normalize, "drawn from seed 0")
    return Deployable(Normalize(**normalize), network).eval(), spec


def draw(network: nn.Module) -> None:
    """Draw weights with which maps neither fade nor grow from layer to layer, and boxes stay near anchors."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm2d):  # else each block would double what comes in
            nn.init.constant_(module.weight, 0.5)
        if name.endswith("_reg"):  # the layers of box deltas, as all families call them
            nn.init.normal_(cast(Tensor, module.weight), std=1e-3)


def filling(image: Image, canvas: tuple[int, int]) -> Batch:
    """A batch of the one image, stretched over the whole canvas (height, width)."""
    pixels = cv2.resize(image, canvas[::-1]).transpose(2, 0, 1)[None].astype(np.float32)
    sizes = np.array([canvas], np.int64)
    return Batch(pixels, sizes, sizes)


@dataclass(frozen=True)
class Spread:
    """A median with the least and the largest of the values it was taken of."""

    median: float
    least: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of one value or more."""
        return cls(float(np.median(values)), min(values), max(values))

    def __format__(self, form: str) -> str:
        return f"{self.median:{form}} ({self.least:{form}}–{self.largest:{form}})"


def interleaved(
    calls: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 1
) -> dict[str, list[float]]:
    """The seconds of each call in each of `rounds`, in which the calls take turns.

    So what else the machine does falls on all of them alike, and a ratio within a round means something.
    `warmup` rounds before are not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for index in range(warmup + rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if index >= warmup:
                times[name].append(time.perf_counter() - started)
    return times


def ratio(times: Mapping[str, Sequence[float]], one: str, other: str) -> Spread:
    """The time of `one` over that of `other`, round by round."""
    return Spread.of([a / b for a, b in zip(times[one], times[other], strict=True)])


def how_timed(rounds: int) -> list[str]:
    """What every sheet of `interleaved` times has to say of them."""
    return [
        f"Each figure is the median of {rounds} rounds (least–largest in brackets) in one process, after one "
        "round of warm-up. In a round all forms run in turn; a ratio is taken within each round.",
        f"PyTorch uses {torch.get_num_threads()} threads; ONNX Runtime, where it runs, is left to its "
        "own choice, which is one thread a core.",
    ]


@dataclass(frozen=True)
class Sheet:
    """A table under its title: the first column is what a row is about, the others are figures."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def rich(self) -> Table:
        """The table for a terminal."""
        table = Table(title=self.title, title_justify="left", box=None, padding=(0, 2, 0, 0))
        for index, heading in enumerate(self.headings):
            table.add_column(heading, justify="right" if index else "left", no_wrap=not index)
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """The table in GitHub's Markdown, under a heading."""
        lines = [self.headings, ["---", *["---:"] * (len(self.headings) - 1)], *self.rows]
        return f"## {self.title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def show(sheets: Sequence[Sheet]) -> None:
    """Print the sheets."""
    console = Console(width=130)
    for sheet in sheets:
        console.print(sheet.rich(), "")


def write(name: str, title: str, sheets: Sequence[Sheet], notes: Sequence[str]) -> None:
    """Write the sheets to `results/<name>.md` with the notes, the date, the machine and the versions."""
    machine = hardware()
    gpus = ", ".join(machine["gpus"]) or "none"
    facts = [
        f"Date: {date.today().isoformat()}",
        f"Hardware: {machine['processor']}, {machine['cpus']} CPUs; GPUs: {gpus}",
        f"Versions: {', '.join(f'{name} {version}' for name, version in versions().items())}",
    ]
    tables = "\n".join([f"# {title}\n", *(sheet.markdown() for sheet in sheets)])
    told = "".join(f"- {line}\n" for line in [*notes, *facts])
    write_text(RESULTS / f"{name}.md", f"{tables}\n## How it was measured\n\n{told}")
    print(f"written: {RESULTS.name}/{name}.md")
