import ctypes

import pytest

from samebox.core import gpu
from samebox.core.gpu import Gpu, driver, gpus


class Driver:
    """The CUDA driver's functions, for one GPU."""

    def __init__(self, status):
        self.status = status

    def cuInit(self, flags):  # noqa: N802
        return self.status

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = 1
        return 0

    def cuDeviceGet(self, device, index):  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name, length, device):  # noqa: N802
        name.value = b"Fast One"
        return 0

    def cuDeviceTotalMem_v2(self, memory, device):  # noqa: N802
        memory._obj.value = 24 << 30
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):  # noqa: N802
        value._obj.value = {75: 8, 76: 9}[attribute]
        return 0

    def nvmlInit_v2(self):  # noqa: N802
        return self.status

    def nvmlSystemGetDriverVersion(self, version, length):  # noqa: N802
        version.value = b"580.65.06"
        return 0

    def nvmlShutdown(self):  # noqa: N802
        return 0


def test_what_the_driver_says(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(status=0))
    assert gpus() == [Gpu("Fast One", (8, 9), 24 * 1024)]
    assert gpus()[0].target == "SM89"
    assert driver() == "580.65.06"


def no_driver(name):
    raise OSError(name)


@pytest.mark.parametrize("library", [no_driver, lambda name: Driver(status=100), lambda name: object()])
def test_no_driver_is_no_gpu(monkeypatch, library):
    monkeypatch.setattr(gpu.ctypes, "CDLL", library)
    assert gpus() == []
    assert driver() is None
