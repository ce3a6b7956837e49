import io
import sys
import threading

import pytest

from samebox.core import progress as module
from samebox.core.progress import Task, progress, tracked


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """Seconds that pass only while a writer waits; each wait first does some work."""

    def __init__(self, monkeypatch, work):
        self.seconds, self.work = 0.0, iter(work)
        monkeypatch.setattr(module.time, "monotonic", lambda: self.seconds)

    def wait(self, seconds):
        """Stands in for the event that stops a writer: true at the end of the work."""
        self.seconds += seconds
        for step in self.work:
            step()
            return False
        return True


@pytest.fixture
def lines(monkeypatch, capsys):
    """The lines that are written while tasks do `work`, a step of it before each line."""

    def run(tasks, *work):
        writer = module._Lines(tasks)
        monkeypatch.setattr(writer, "stopped", Clock(monkeypatch, work))
        monkeypatch.setattr(module, "_DISPLAY", module._Display())
        for task in tasks:
            task.started = 0.0
        writer.run()
        return capsys.readouterr().err.splitlines()

    return run


def test_a_line_every_thirty_seconds_states_count_total_and_time(lines):
    task = Task("PyTorch, batch 4", 200, "images")
    assert lines([task], lambda: task.advance(60), lambda: task.advance(4), lambda: None) == [
        "PyTorch, batch 4: 60 of 200 images, 2.0/s, 0:00:30",
        "PyTorch, batch 4: 64 of 200 images, 1.1/s, 0:01:00",
        "PyTorch, batch 4: 64 of 200 images, 0.7/s, 0:01:30",
    ]


def test_open_tasks_share_the_line(lines):
    step, frames = Task("retinanet, export"), Task("clip.mp4", unit="frames")
    assert lines([step, frames], lambda: frames.advance(90)) == [
        "retinanet, export: 0:00:30; clip.mp4: 90 frames, 3.0/s, 0:00:30"
    ]


def test_bytes_are_shown_in_megabytes_and_a_total_may_come_later(lines):
    task = Task("net.pth", unit="bytes")
    assert lines([task], lambda: None, lambda: task.update(60_000_000, 150_000_000)) == [
        "net.pth: 0:00:30",
        "net.pth: 60.0 of 150.0 MB, 1.0/s, 0:01:00",
    ]


def test_work_that_ends_sooner_writes_nothing_and_leaves_no_thread(capsys):
    before = threading.active_count()
    with progress("inputs", 2) as task:
        task.advance()
        with progress("clip.mp4"):
            assert threading.active_count() == before + 1
    assert module._DISPLAY.tasks == []
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.daemon:
            thread.join(1)
    assert threading.active_count() == before
    assert capsys.readouterr() == ("", "")


def test_the_last_batch_may_be_smaller():
    counts = [module._DISPLAY.tasks[0].completed for _ in tracked("ab", "batches", 6, "images", 4)]
    assert counts == [0, 4]
    with progress("next") as task:
        assert module._DISPLAY.tasks == [task]


def test_an_error_ends_the_task():
    with pytest.raises(ValueError, match="broken"), progress("inputs"):
        raise ValueError("broken")
    assert module._DISPLAY.tasks == []


def test_on_a_terminal_there_are_bars(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress("photos [1]", 20, "images") as task, progress("clip.mp4"):
        task.advance(5)
        module._DISPLAY.writer.bars.refresh()
    written = sys.stderr.getvalue()
    assert "photos [1]" in written
    assert "5 of 20 images" in written


def test_without_rich_a_terminal_gets_lines(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with progress("inputs"):
        assert isinstance(module._DISPLAY.writer, module._Lines)
    assert sys.stderr.getvalue() == ""
