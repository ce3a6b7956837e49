import ctypes

import pytest
from fake_cuda import Driver

from samebox.core.gpu import Gpu, driver_version, gpus


class Nvml:
    """NVIDIA's management library, whose initialization returns `status`."""

    def __init__(self, status):
        self.status = status

    def nvmlInit_v2(self):  # noqa: N802
        return self.status

    def nvmlSystemGetDriverVersion(self, version, length):  # noqa: N802
        version.value = b"580.65.06"
        return 0

    def nvmlShutdown(self):  # noqa: N802
        return 0


def test_the_driver_describes_the_gpus(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    assert gpus() == [Gpu("Fast One", (8, 9), 24 * 1024)]
    assert gpus()[0].target == "SM89"


def test_the_management_library_knows_the_drivers_version(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Nvml(0))
    assert driver_version() == "580.65.06"


def no_library(name):
    raise OSError(name)


@pytest.mark.parametrize("library", [no_library, lambda name: Driver(status=100), lambda name: object()])
def test_without_a_working_driver_there_is_no_gpu(monkeypatch, library):
    monkeypatch.setattr(ctypes, "CDLL", library)
    assert gpus() == []


@pytest.mark.parametrize("library", [no_library, lambda name: Nvml(9), lambda name: object()])
def test_without_a_working_driver_there_is_no_version(monkeypatch, library):
    monkeypatch.setattr(ctypes, "CDLL", library)
    assert driver_version() is None
