import time

import pytest
import torch

from benchmarks import common
from benchmarks.common import Sheet, Spread, bias_for, interleaved, ratio


def test_calls_take_turns_and_the_warm_up_is_not_counted():
    order = []
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    times = interleaved(calls, rounds=2, warmup=1)
    assert order == ["a", "b"] * 3
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 2, "b": 2}


def test_the_seconds_are_those_of_the_call():
    times = interleaved({"sleep": lambda: time.sleep(0.02), "none": lambda: None}, rounds=1)
    assert times["sleep"][0] >= 0.02 > times["none"][0]


def test_a_ratio_is_taken_round_by_round():
    # the medians of the two are 2 and 4: their ratio would be 0.5, which no round shows
    spread = ratio({"a": [1.0, 2.0, 8.0], "b": [4.0, 8.0, 2.0]}, "a", "b")
    assert spread == Spread(0.25, 0.25, 4.0)


def test_a_spread_shows_median_least_and_largest():
    assert f"{Spread.of([3.0, 1.0, 2.0]):.1f}" == "2.0 (1.0–3.0)"


@pytest.mark.parametrize("candidates", [1, 300, 9_999])
def test_the_bias_leaves_as_many_candidates_as_asked(candidates):
    logits = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    scores = (logits + bias_for(candidates, logits, 0.05)).sigmoid()
    assert int((scores > 0.05).sum()) == candidates


def test_what_is_written_says_when_where_and_with_what(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    common.write("name", "Title", [Sheet("Sheet", ["what", "ms"], [["one", "1.5"]])], ["a note"])
    text = (tmp_path / "name.md").read_text()
    assert "## Sheet\n\n| what | ms |\n| --- | ---: |\n| one | 1.5 |\n" in text
    for told in ("- a note\n", "- Date: 20", "- Hardware: ", f"torch {torch.__version__}"):
        assert told in text
