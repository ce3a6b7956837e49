"""What the benchmarks share: networks with random weights, interleaved timing, tables for a terminal."""

import time
from collections.abc import Callable, Mapping, Sequence

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.describe import description
from benchmarks.networks import network_of
from benchmarks.sheets import Sheet, Spread
from samebox.networks.nets.contract import Deployable
from samebox.record.spec import Spec


def drawn(detector: str) -> tuple[Deployable, Spec]:
    """The network of `conf/detector/<detector>.yaml` with random weights from seed 0.

    Times depend on the weights only through the number of candidates. Raises SameboxError for a detector
    that `conf/` does not have.
    """
    return network_of(description(detector))


def interleaved(
    calls: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 1
) -> dict[str, list[float]]:
    """The seconds of each call in each of `rounds`; in a round every call runs once, in turn.

    Other load on the machine then affects all calls alike, and a ratio within a round is meaningful. The
    first `warmup` rounds are not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for index in range(warmup + rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if index >= warmup:
                times[name].append(time.perf_counter() - started)
    return times


def ratio(times: Mapping[str, Sequence[float]], numerator: str, denominator: str) -> Spread:
    """The time of `numerator` over that of `denominator`, round by round."""
    return Spread.of([a / b for a, b in zip(times[numerator], times[denominator], strict=True)])


def how_timed(rounds: int) -> list[str]:
    """The notes of every sheet of `interleaved` times."""
    return [
        f"Each figure is the median of {rounds} rounds (least–largest in brackets) in one process, after one "
        "round of warm-up. In a round all forms run in turn; a ratio is taken within a round.",
        f"PyTorch uses {torch.get_num_threads()} threads; ONNX Runtime, if it runs, uses its default, one "
        "thread per core.",
    ]


def table(sheet: Sheet) -> Table:
    """The sheet for a terminal."""
    drawing = Table(title=sheet.title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for index, heading in enumerate(sheet.headings):
        drawing.add_column(heading, justify="right" if index else "left", no_wrap=not index)
    for row in sheet.rows:
        drawing.add_row(*row)
    return drawing


def show(sheets: Sequence[Sheet]) -> None:
    """Print the sheets."""
    console = Console(width=130)
    for sheet in sheets:
        console.print(table(sheet), "")
