import io
import sys

import pytest

from samebox.core import progress as module
from samebox.core.progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the test sets."""
    seconds = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: seconds[0])
    return seconds


def count(clock):
    """Two tasks of one item every ten seconds."""
    with progress() as start:
        inputs, frames = start("inputs", 20), start("clip.mp4", None)
        for _ in range(4):
            clock[0] += 10
            frames()
            inputs()


def test_without_a_terminal_there_is_a_line_every_thirty_seconds(clock, capsys):
    count(clock)
    assert capsys.readouterr().err == "clip.mp4: 3\n"
    count(clock)
    assert capsys.readouterr().err == "clip.mp4: 3\n"


def test_lines_state_the_total_if_it_is_known(clock, capsys):
    with progress() as start:
        advance = start("inputs", 2)
        clock[0] = 31
        advance()
    assert capsys.readouterr().err == "inputs: 1 of 2\n"


def test_on_a_terminal_there_are_bars(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    count(clock)
    assert "inputs" in sys.stderr.getvalue()


def test_without_rich_a_terminal_gets_lines(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    count(clock)
    assert sys.stderr.getvalue() == "clip.mp4: 3\n"
