"""Progress of an engine build."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from samebox.core.progress import Task


@contextmanager
def build_progress(trt: Any, config: Any) -> Iterator[None]:
    """Shows each running phase of the build with `config`.

    Raises KeyboardInterrupt at the end if Ctrl-C stopped the build, because TensorRT does not pass on
    exceptions from its callbacks.
    """
    config.progress_monitor = monitor = progress_monitor(trt)
    try:
        yield
    finally:
        for task in monitor.tasks.values():  # of phases that a failure or Ctrl-C has ended
            task.close()
    if monitor.interrupted:
        raise KeyboardInterrupt


def progress_monitor(trt: Any) -> Any:
    """A TensorRT progress monitor that shows each running phase; TensorRT calls it from several threads."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interrupted = False
            self.tasks: dict[str, Task] = {}

        @contextmanager
        def recording_interrupt(self) -> Iterator[None]:
            try:
                yield
            except KeyboardInterrupt:
                self.interrupted = True

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            with self.recording_interrupt():
                self.tasks[phase] = Task(phase, steps, "steps")
                self.tasks[phase].open()

        def step_complete(self, phase: str, step: int) -> bool:
            with self.recording_interrupt():
                if phase in self.tasks:
                    self.tasks[phase].update(step + 1)
            return not self.interrupted

        def phase_finish(self, phase: str) -> None:
            with self.recording_interrupt():
                if phase in self.tasks:
                    self.tasks.pop(phase).close()

    return Monitor()
