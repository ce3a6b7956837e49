"""Each step of the chain is done once for the same inputs, and leaves all or nothing."""

import multiprocessing
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pipelines.chain import once
from samebox.errors import SameboxError


def config(work):
    return OmegaConf.create({"work": str(work), "paths": {"onnx": "elsewhere"}})


def writes(text):
    def stage(config):
        folder = Path(config.paths.onnx)
        folder.mkdir(parents=True)
        with (Path(config.work) / "ran").open("a") as ran:
            ran.write(text)
        (folder / "made").write_text(text)

    return stage


def test_equal_inputs_run_once_and_others_again(tmp_path):
    first = once(config(tmp_path), "onnx", {"opset": 16}, writes("a"))
    again = once(config(tmp_path), "onnx", {"opset": 16}, writes("b"))
    other = once(config(tmp_path), "onnx", {"opset": 18}, writes("c"))
    assert first == again != other
    assert (tmp_path / "ran").read_text() == "ac"
    assert (Path(first) / "made").read_text() == "a"


def test_a_stage_that_fails_leaves_nothing_and_can_be_repeated(tmp_path):
    def fails(config):
        Path(config.paths.onnx).mkdir(parents=True)
        (Path(config.paths.onnx) / "half").touch()
        raise SameboxError("no")

    with pytest.raises(SameboxError, match="no"):
        once(config(tmp_path), "onnx", {}, fails)
    folder = Path(once(config(tmp_path), "onnx", {}, writes("whole")))
    assert [path.name for path in folder.iterdir()] == ["made"]


def _slowly(work):
    def stage(config):
        time.sleep(0.5)
        writes("x")(config)

    once(config(work), "onnx", {}, stage)


def test_who_wants_the_same_at_the_same_time_waits_for_it(tmp_path):
    processes = [multiprocessing.Process(target=_slowly, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "ran").read_text() == "x"
