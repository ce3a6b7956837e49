"""NVIDIA GPUs of this machine, as the driver describes them."""

import ctypes
import sys
from ctypes import byref, c_int, c_size_t, create_string_buffer
from dataclasses import dataclass

from samebox.core.cuda import Driver
from samebox.core.errors import NotHere

# Values of CUdevice_attribute in cuda.h
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True)
class Gpu:
    """One GPU: CUDA's compute capability (major, minor), and its total memory in MiB."""

    name: str
    capability: tuple[int, int]
    memory_mb: int

    @property
    def target(self) -> str:
        """The compute capability as TensorRT-RTX names it, such as SM86."""
        return "SM{}{}".format(*self.capability)


def gpus() -> list[Gpu]:
    """The GPUs in the driver's order; empty without a driver, or if the driver reports an error."""
    try:
        driver, count = Driver(), c_int()
        driver.call("cuInit", 0)
        driver.call("cuDeviceGetCount", byref(count))
        return [_gpu(driver, index) for index in range(count.value)]
    except NotHere:
        return []


def driver_version() -> str | None:
    """The version of NVIDIA's driver; None without a driver, or if it reports an error."""
    version = create_string_buffer(80)
    try:
        nvml = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
        if nvml.nvmlInit_v2() or nvml.nvmlSystemGetDriverVersion(version, len(version)):
            return None
        nvml.nvmlShutdown()
    except (OSError, AttributeError):  # no library, or a library without one of the functions
        return None
    return version.value.decode()


def _gpu(driver: Driver, index: int) -> Gpu:
    device, memory, name = c_int(), c_size_t(), create_string_buffer(256)
    driver.call("cuDeviceGet", byref(device), index)
    driver.call("cuDeviceGetName", name, len(name), device)
    driver.call("cuDeviceTotalMem_v2", byref(memory), device)
    capability = (
        _attribute(driver, _CAPABILITY_MAJOR, device),
        _attribute(driver, _CAPABILITY_MINOR, device),
    )
    return Gpu(name.value.decode(errors="replace"), capability, memory.value >> 20)


def _attribute(driver: Driver, attribute: int, device: c_int) -> int:
    value = c_int()
    driver.call("cuDeviceGetAttribute", byref(value), attribute, device)
    return value.value
