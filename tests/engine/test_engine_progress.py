import io
from unittest import mock

import pytest
from rich.console import Console
from rich.progress import Progress
from tiny_onnx import tiny_file

from samebox.engine import progress
from samebox.engine.build import engine_from_onnx
from samebox.engine.profile import Profile

trt = pytest.importorskip("tensorrt_rtx")

PROFILE = Profile(batch=(1, 2, 4), height=(64, 96, 256), width=(64, 128, 256))


def test_phases_come_and_go_as_bars():
    bars = Progress(console=Console(file=io.StringIO()), disable=True)
    monitor = progress.monitor(trt, bars)
    monitor.phase_start("Building", None, 6)
    monitor.phase_start("Timing", "Building", 40)
    assert monitor.step_complete("Timing", 9) is True
    assert [(task.description, task.completed, task.total) for task in bars.tasks] == [
        ("Building", 0, 6),
        ("Timing", 10, 40),
    ]
    monitor.phase_finish("Timing")
    monitor.phase_finish("Building")
    assert bars.tasks == []


def test_a_build_shows_its_phases_and_leaves_no_trace(tmp_path, monkeypatch, capfd):
    source, told = tiny_file(tmp_path / "tiny.onnx"), []
    add = Progress.add_task
    monkeypatch.setattr(
        Progress, "add_task", lambda bars, name, **more: told.append(name) or add(bars, name, **more)
    )
    engine_from_onnx(source, tmp_path / "tiny.engine", PROFILE, targets=["SM89"])
    assert told[0] == "Building engine"
    assert len(told) > 3
    assert capfd.readouterr() == ("", "")  # not a terminal


def test_an_interrupt_ends_a_build(tmp_path, monkeypatch):
    source = tiny_file(tmp_path / "tiny.onnx")

    def interrupted(*_, **__):
        raise KeyboardInterrupt  # as Python's own handler of the signal does

    monkeypatch.setattr(Progress, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine_from_onnx(source, tmp_path / "tiny.engine", PROFILE, targets=["SM89"])
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]


def test_the_bars_are_on_a_terminal_alone():
    for terminal in (True, False):
        console = Console(file=io.StringIO(), force_terminal=terminal)
        with mock.patch.object(progress, "Console", return_value=console):
            config = mock.Mock()
            with progress.shown(trt, config):
                config.progress_monitor.phase_start("Timing", None, 40)
        assert ("Timing" in console.file.getvalue()) is terminal
