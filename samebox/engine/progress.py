"""Progress bars of an engine build on the terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


@contextmanager
def progress_bars(trt: Any, config: Any) -> Iterator[None]:
    """Shows a bar for each running phase of the build with `config`, if stderr is a terminal.

    Raises KeyboardInterrupt at the end if Ctrl-C stopped the build, because TensorRT does not pass on
    exceptions from its callbacks.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        config.progress_monitor = monitor = progress_monitor(trt, bars)
        yield
    if monitor.interrupted:
        raise KeyboardInterrupt


def progress_monitor(trt: Any, bars: Progress) -> Any:
    """A TensorRT progress monitor that updates `bars`. TensorRT calls it from several threads."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interrupted = False
            self.tasks: dict[str, TaskID] = {}

        @contextmanager
        def recording_interrupt(self) -> Iterator[None]:
            try:
                yield
            except KeyboardInterrupt:
                self.interrupted = True

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            with self.recording_interrupt():
                self.tasks[phase] = bars.add_task(phase, total=steps)

        def step_complete(self, phase: str, step: int) -> bool:
            with self.recording_interrupt():
                if phase in self.tasks:
                    bars.update(self.tasks[phase], completed=step + 1)
            return not self.interrupted

        def phase_finish(self, phase: str) -> None:
            with self.recording_interrupt():
                if phase in self.tasks:
                    bars.remove_task(self.tasks.pop(phase))

    return Monitor()
