"""This machine and this process, as reports record them."""

import ctypes
import gc
import logging
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from samebox.core.cuda import memory_in_use
from samebox.core.errors import NotHere
from samebox.core.gpu import driver_version, gpus

log = logging.getLogger(__name__)

# The packages whose version can change a number in a table
PACKAGES = (
    "samebox", "torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "onnxsim", "tensorrt-rtx",
    "tensorrt", "numpy", "opencv-python-headless", "pillow", "pycocotools",
)  # fmt: skip


def hardware() -> dict[str, Any]:
    """The system, its processor, the threads a network may take of it, its GPUs and their driver."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "threads": threads() or "one a core",
        "gpus": [gpu.name for gpu in gpus()],
        "driver": driver_version(),
    }


def threads() -> int | None:
    """Of a network on the CPU, as OMP_NUM_THREADS has it; None where that says nothing.

    PyTorch obeys the variable by itself, ONNX Runtime has to be told.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(asked) if asked.isdecimal() and int(asked) else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def versions() -> dict[str, str]:
    """Python and those of `PACKAGES` that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def samebox_version() -> str:
    """The version of the installed distribution, which pyproject.toml states."""
    return metadata.version("samebox")


def reset_peak_memory() -> None:
    """Give back what earlier work freed, and start `peak_memory_mb` anew, where Linux lets us."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # else glibc would serve the next form from what it kept
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        log.debug("the peak memory cannot be reset here; what is told covers the whole process")


def peak_memory_mb() -> float | None:
    """The largest resident memory of this process since the reset, in MiB; None where nobody tells."""
    return _status_mb("VmHWM") or _largest_ever_mb()


def resident_memory_mb() -> float | None:
    """The resident memory of this process now, in MiB; None where it is not told."""
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


def _largest_ever_mb() -> float | None:
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)  # macOS counts bytes
