"""Progress of long work on stderr: a bar on a terminal, a line every 30 seconds otherwise.

Tasks nest, across functions and threads: one display of the process shows all that are open.
"""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from typing import Any, TypeVar

from samebox.core.text import printable

T = TypeVar("T")

INTERVAL = 30.0  # seconds between two lines


class Task:
    """A piece of long work. `completed` of `total` units are done; `total` is None if unknown."""

    def __init__(self, name: str, total: int | None = None, unit: str = "") -> None:
        """`unit` is the plural of what is counted, such as images; bytes are shown in MB."""
        self.name, self.total, self.unit = printable(name), total, unit
        self.completed = 0
        self.started = time.monotonic()

    def open(self) -> None:
        """Begin to show the task."""
        _DISPLAY.open(self)

    def close(self) -> None:
        """End it."""
        _DISPLAY.close(self)

    def advance(self, count: int = 1) -> None:
        """Count further units as completed."""
        self.update(self.completed + count)

    def update(self, completed: int, total: int | None = None) -> None:
        """Set the completed units, and the total if it has become known."""
        self.completed, self.total = completed, self.total if total is None else total
        _DISPLAY.show(self)

    @property
    def amount(self) -> str:
        """The completed units and how many a second; empty before the first of an unknown total."""
        if self.total is None and not self.completed:
            return ""
        elapsed = time.monotonic() - self.started
        of_total = "" if self.total is None else f" of {self._number(self.total)}"
        rate = f", {self._number(self.completed / elapsed, 1)}/s" if self.completed and elapsed else ""
        return f"{self._number(self.completed)}{of_total} {self._unit}".rstrip() + rate

    @property
    def line(self) -> str:
        """The name, the amount and the time since the start: `PyTorch: 60 of 200 images, 2.0/s, 0:00:30`."""
        elapsed = timedelta(seconds=int(time.monotonic() - self.started))
        return f"{self.name}: {', '.join(filter(None, [self.amount, str(elapsed)]))}"

    @property
    def _unit(self) -> str:
        return "MB" if self.unit == "bytes" else self.unit

    def _number(self, count: float, digits: int = 0) -> str:
        return f"{count / 1e6:.1f}" if self.unit == "bytes" else f"{count:.{digits}f}"


@contextmanager
def progress(name: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
    """Show a task while the block runs. Arguments as in Task."""
    task = Task(name, total, unit)
    task.open()
    try:
        yield task
    finally:
        task.close()


def tracked(
    items: Iterable[T], name: str, total: int | None = None, unit: str = "", step: int = 1
) -> Iterator[T]:
    """Yield the items while a task is shown, which advances by `step` units after each of them."""
    with progress(name, total, unit) as task:
        for item in items:
            yield item
            task.advance(step if total is None else min(step, total - task.completed))


class _Writer:
    """Shows tasks from its start to its stop."""

    def start(self) -> None:
        """Begin to show tasks."""

    def stop(self) -> None:
        """End it; all tasks are closed."""

    def open(self, task: Task) -> None:
        """A task begins."""

    def show(self, task: Task) -> None:
        """A task has advanced."""

    def close(self, task: Task) -> None:
        """A task has ended."""


class _Display:
    """The open tasks of the process, and their writer while there are any."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.writer = _Writer()
        self.lock = threading.RLock()

    def open(self, task: Task) -> None:
        with self.lock:
            if not self.tasks:
                bars = sys.stderr.isatty() and find_spec("rich") is not None
                self.writer = _Bars() if bars else _Lines(self.tasks)
                self.writer.start()
            self.tasks.append(task)
            self.writer.open(task)

    def show(self, task: Task) -> None:
        with self.lock:
            if task in self.tasks:
                self.writer.show(task)

    def close(self, task: Task) -> None:
        with self.lock:
            self.tasks.remove(task)
            self.writer.close(task)
            if not self.tasks:
                self.writer.stop()


class _Lines(_Writer):
    """Writes a line about all open tasks every `INTERVAL` seconds, from a thread, because work may block."""

    def __init__(self, tasks: list[Task]) -> None:
        self.tasks = tasks
        self.stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self.run, daemon=True).start()

    def stop(self) -> None:
        self.stopped.set()

    def run(self) -> None:
        """Write lines until the writer is stopped."""
        while not self.stopped.wait(INTERVAL):
            print("; ".join(task.line for task in [*self.tasks]), file=sys.stderr, flush=True)


class _Bars(_Writer):
    """Draws a bar for each open task; they disappear at the end."""

    def __init__(self) -> None:
        # a deployment need not have rich
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.bars = Progress(
            TextColumn("{task.description}", markup=False),  # file names may contain brackets
            BarColumn(),
            TextColumn("{task.fields[amount]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self.ids: dict[Task, Any] = {}

    def start(self) -> None:
        self.bars.start()

    def stop(self) -> None:
        self.bars.stop()

    def open(self, task: Task) -> None:
        self.ids[task] = self.bars.add_task(task.name, total=task.total, amount=task.amount)

    def show(self, task: Task) -> None:
        self.bars.update(self.ids[task], completed=task.completed, total=task.total, amount=task.amount)

    def close(self, task: Task) -> None:
        self.bars.remove_task(self.ids.pop(task))


_DISPLAY = _Display()
