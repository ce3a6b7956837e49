import ctypes
import subprocess
import sys

import pytest
from fake_cuda import Driver

from samebox.core import environment
from samebox.core.environment import (
    gpu_memory_mb,
    hardware,
    peak_memory_mb,
    reset_peak_memory,
    resident_memory_mb,
    threads,
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux resets the peak")


def test_hardware_describes_system_processor_and_gpus():
    machine = hardware()
    assert machine["system"] in {"Linux", "Darwin", "Windows"}
    assert machine["machine"]
    assert machine["cpus"] >= 1
    assert isinstance(machine["gpus"], list)


@pytest.mark.parametrize(
    ("variable", "count"), [("1", 1), ("4,2", 4), ("", None), ("0", None), ("all", None)]
)
def test_threads_follow_openmps_variable(monkeypatch, variable, count):
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert threads() == count
    assert hardware()["threads"] == (count or "one per core")


def test_without_proc_cpuinfo_python_knows_the_processor(monkeypatch):
    def absent(_):
        raise FileNotFoundError

    monkeypatch.setattr(environment.Path, "read_text", absent)
    monkeypatch.setattr(environment.platform, "processor", lambda: "arm")
    assert hardware()["processor"] == "arm"


@linux
def test_the_peak_is_counted_from_the_reset():
    program = """
import numpy as np
from samebox.core.environment import peak_memory_mb, reset_peak_memory, resident_memory_mb
np.ones(200 << 17)  # 200 MiB, freed at once, though malloc's settings may keep them resident
before = peak_memory_mb()
reset_peak_memory()
after = peak_memory_mb(), resident_memory_mb()
np.ones(100 << 17)
print(before, *after, peak_memory_mb())
"""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    largest, reset, resident, again = map(float, process.stdout.split())
    assert largest - reset == pytest.approx(200, abs=20)
    assert resident == pytest.approx(reset, abs=20)
    assert again - reset == pytest.approx(100, abs=20)


def test_without_proc_status_only_the_peak_is_known(monkeypatch):
    def absent(_):
        raise FileNotFoundError

    monkeypatch.setattr(environment.Path, "read_text", absent)
    assert resident_memory_mb() is None
    if sys.platform != "win32":
        assert peak_memory_mb() > 0


def test_a_peak_that_cannot_be_reset_is_not_an_error(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(environment.Path, "write_text", refuse)
    reset_peak_memory()
    assert peak_memory_mb() > 0


def no_library(name):
    raise OSError(name)


@pytest.mark.parametrize("library", [no_library, lambda name: Driver(status=100)])
def test_without_a_gpu_none_of_its_memory_is_in_use(monkeypatch, library):
    monkeypatch.setattr(ctypes, "CDLL", library)
    assert gpu_memory_mb() == 0


def test_the_memory_in_use_on_a_gpu_is_what_is_not_free(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    assert gpu_memory_mb() == 5 * 1024
