"""The hardware and the memory of this process, for records and reports."""

import ctypes
import gc
import logging
import os
import platform
import sys
from pathlib import Path
from typing import Any

from samebox.core.cuda import memory_in_use
from samebox.core.errors import NotHere
from samebox.core.gpu import driver_version, gpus

log = logging.getLogger(__name__)


def hardware() -> dict[str, Any]:
    """The system, its processor, the threads of a network on the CPU, its GPUs and their driver."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "threads": threads() or "one per core",
        "gpus": [gpu.name for gpu in gpus()],
        "driver": driver_version(),
    }


def threads() -> int | None:
    """The threads of a network on the CPU by OMP_NUM_THREADS; None if the variable is not a positive number.

    PyTorch reads the variable; ONNX Runtime does not and is given the number.
    """
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def reset_peak_memory() -> None:
    """Return freed memory to the system and reset `peak_memory_mb`. Does nothing except on Linux."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # otherwise the next form would reuse memory that glibc kept
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        log.debug("the peak memory cannot be reset here; it covers the whole process")


def peak_memory_mb() -> float | None:
    """The peak resident memory of this process since the reset, in MiB; None if the system has no figure."""
    return _status_mb("VmHWM") or _process_peak_mb()


def resident_memory_mb() -> float | None:
    """The resident memory of this process now, in MiB; None except on Linux."""
    return _status_mb("VmRSS")


def gpu_memory_mb() -> float:
    """The memory in use on the first GPU, by all processes together, in MiB; 0 without a usable GPU."""
    try:
        return memory_in_use() / (1 << 20)
    except NotHere:
        return 0.0


def _status_mb(field: str) -> float | None:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def _process_peak_mb() -> float | None:
    """The peak of the whole process so far, which cannot be reset."""
    if sys.platform == "win32":
        return None
    import resource  # does not exist on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)  # macOS counts bytes
