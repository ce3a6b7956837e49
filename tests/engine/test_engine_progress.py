from unittest import mock

import pytest
from tiny_onnx import tiny_file

from samebox.core.progress import Task
from samebox.engine import progress
from samebox.engine.build import engine_from_onnx
from samebox.engine.profile import Profile

trt = pytest.importorskip("tensorrt_rtx")

PROFILE = Profile(batch=(1, 2, 4), height=(64, 96, 256), width=(64, 128, 256))


def test_each_running_phase_is_a_task():
    monitor = progress.progress_monitor(trt)
    monitor.phase_start("Building", None, 6)
    monitor.phase_start("Timing", "Building", 40)
    assert monitor.step_complete("Timing", 9) is True
    assert [(task.name, task.completed, task.total) for task in monitor.tasks.values()] == [
        ("Building", 0, 6),
        ("Timing", 10, 40),
    ]
    monitor.phase_finish("Timing")
    monitor.phase_finish("Building")
    assert monitor.tasks == {}


def test_phases_that_have_not_finished_are_closed_at_the_end():
    config, closed = mock.Mock(), []
    with mock.patch.object(Task, "close", lambda task: closed.append(task.name)):  # noqa: SIM117
        with progress.build_progress(trt, config):
            config.progress_monitor.phase_start("Timing", None, 40)
    assert closed == ["Timing"]


def test_a_build_reports_its_phases_and_prints_nothing_outside_a_terminal(tmp_path, monkeypatch, capfd):
    source, phases = tiny_file(tmp_path / "tiny.onnx"), []
    opened = Task.open
    monkeypatch.setattr(Task, "open", lambda task: phases.append(task.name) or opened(task))
    engine_from_onnx(source, tmp_path / "tiny.engine", PROFILE, targets=["SM89"])
    assert phases[0] == "Building engine"
    assert len(phases) > 3
    assert capfd.readouterr() == ("", "")  # not a terminal


def test_ctrl_c_stops_a_build(tmp_path, monkeypatch):
    source = tiny_file(tmp_path / "tiny.onnx")

    def interrupted(*_, **__):
        raise KeyboardInterrupt  # as Python's signal handler does

    monkeypatch.setattr(Task, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine_from_onnx(source, tmp_path / "tiny.engine", PROFILE, targets=["SM89"])
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]
