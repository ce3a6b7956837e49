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


def test_each_running_phase_has_a_bar():
    bars = Progress(console=Console(file=io.StringIO()), disable=True)
    monitor = progress.progress_monitor(trt, bars)
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


def test_a_build_reports_its_phases_and_prints_nothing_outside_a_terminal(tmp_path, monkeypatch, capfd):
    source, phases = tiny_file(tmp_path / "tiny.onnx"), []
    add = Progress.add_task
    monkeypatch.setattr(
        Progress, "add_task", lambda bars, name, **more: phases.append(name) or add(bars, name, **more)
    )
    engine_from_onnx(source, tmp_path / "tiny.engine", PROFILE, targets=["SM89"])
    assert phases[0] == "Building engine"
    assert len(phases) > 3
    assert capfd.readouterr() == ("", "")  # not a terminal


def test_ctrl_c_stops_a_build(tmp_path, monkeypatch):
    source = tiny_file(tmp_path / "tiny.onnx")

    def interrupted(*_, **__):
        raise KeyboardInterrupt  # as Python's signal handler does

    monkeypatch.setattr(Progress, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine_from_onnx(source, tmp_path / "tiny.engine", PROFILE, targets=["SM89"])
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]


def test_bars_appear_only_on_a_terminal():
    for terminal in (True, False):
        console = Console(file=io.StringIO(), force_terminal=terminal)
        with mock.patch.object(progress, "Console", return_value=console):
            config = mock.Mock()
            with progress.progress_bars(trt, config):
                config.progress_monitor.phase_start("Timing", None, 40)
        assert ("Timing" in console.file.getvalue()) is terminal
