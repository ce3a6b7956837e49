"""A build's progress on the terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


@contextmanager
def shown(trt: Any, config: Any) -> Iterator[None]:
    """A bar for each phase of the build with `config`, while it lasts; none where nobody looks.

    Raises KeyboardInterrupt at the end where one stopped the build: TensorRT lets no exception through.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        config.progress_monitor = watching = monitor(trt, bars)
        yield
    if watching.interrupted:
        raise KeyboardInterrupt


def monitor(trt: Any, bars: Progress) -> Any:
    """What TensorRT tells of its phases and their steps, from whichever thread, to `bars`."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interrupted = False
            self.tasks: dict[str, TaskID] = {}

        @contextmanager
        def noting(self) -> Iterator[None]:
            try:
                yield
            except KeyboardInterrupt:
                self.interrupted = True

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            with self.noting():
                self.tasks[phase] = bars.add_task(phase, total=steps)

        def step_complete(self, phase: str, step: int) -> bool:
            with self.noting():
                if phase in self.tasks:
                    bars.update(self.tasks[phase], completed=step + 1)
            return not self.interrupted

        def phase_finish(self, phase: str) -> None:
            with self.noting():
                if phase in self.tasks:
                    bars.remove_task(self.tasks.pop(phase))

    return Monitor()
