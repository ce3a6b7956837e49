"""Progress of long work: bars on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

INTERVAL = 30.0  # seconds between two lines

# Starts a task of a name and, if it is known, a number of items; the function returned counts one item
Start = Callable[[str, int | None], Callable[[], None]]


@contextmanager
def progress() -> Iterator[Start]:
    """A function that starts a task: `start(name, total)` returns a function to call after each item.

    Draws bars if stderr is a terminal and rich is installed. Otherwise a task writes a line to stderr
    every `INTERVAL` seconds, and none if it ends sooner.
    """
    if sys.stderr.isatty() and find_spec("rich"):
        with _bars() as start:
            yield start
    else:
        yield _lines()


@contextmanager
def _bars() -> Iterator[Start]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    name = TextColumn("{task.description}", markup=False)  # file names may contain brackets
    columns = (name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:

        def start(name: str, total: int | None) -> Callable[[], None]:
            task = bars.add_task(name, total=total)
            return lambda: bars.advance(task)

        yield start


def _lines() -> Start:
    written = time.monotonic()

    def start(name: str, total: int | None) -> Callable[[], None]:
        count = 0

        def advance() -> None:
            nonlocal count, written
            count += 1
            if time.monotonic() - written >= INTERVAL:
                written = time.monotonic()
                print(f"{name}: {count}{f' of {total}' if total else ''}", file=sys.stderr, flush=True)

        return advance

    return start
