"""NVIDIA GPUs of this machine, asked of the driver itself: neither torch nor a tool is needed."""

import ctypes
import sys
from dataclasses import dataclass

# Values of CUdevice_attribute in cuda.h.
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True)
class Gpu:
    """One GPU: CUDA's compute capability (major, minor), and the whole of its memory in MiB."""

    name: str
    capability: tuple[int, int]
    memory_mb: int

    @property
    def target(self) -> str:
        """The compute capability as TensorRT-RTX names it, such as SM86."""
        return "SM{}{}".format(*self.capability)


def gpus() -> list[Gpu]:
    """The GPUs that the driver shows, in its order; none where there is no driver or it does not answer."""
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        _check(cuda.cuInit(0))
        count = ctypes.c_int()
        _check(cuda.cuDeviceGetCount(ctypes.byref(count)))
        return [_gpu(cuda, index) for index in range(count.value)]
    except (OSError, AttributeError):  # no library, a failing call, or a function that the library lacks
        return []


def driver() -> str | None:
    """The version of NVIDIA's driver; None where there is none or it does not answer."""
    version = ctypes.create_string_buffer(80)
    try:
        nvml = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
        _check(nvml.nvmlInit_v2())
        _check(nvml.nvmlSystemGetDriverVersion(version, len(version)))
        _check(nvml.nvmlShutdown())
    except (OSError, AttributeError):
        return None
    return version.value.decode()


def _gpu(cuda: ctypes.CDLL, index: int) -> Gpu:
    device, memory, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(256)
    _check(cuda.cuDeviceGet(ctypes.byref(device), index))
    _check(cuda.cuDeviceGetName(name, len(name), device))
    _check(cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device))
    capability = (_attribute(cuda, _CAPABILITY_MAJOR, device), _attribute(cuda, _CAPABILITY_MINOR, device))
    return Gpu(name.value.decode(errors="replace"), capability, memory.value >> 20)


def _attribute(cuda: ctypes.CDLL, attribute: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _check(cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device))
    return value.value


def _check(status: int) -> None:
    if status != 0:
        raise OSError(f"the driver answers with error {status}")
