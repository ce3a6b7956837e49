"""On which GPUs, and in which versions of TensorRT, an engine runs."""

import re
from collections.abc import Sequence
from typing import Any

from samebox.core.errors import SameboxError
from samebox.engine.flavour import default_gpu

# The lowest compute capability that hardware_compatibility=ampere_plus supports
AMPERE = 80

# (built, installed) major versions of TensorRT that differ and still load a version-compatible engine
ACROSS_MAJORS = {(10, 11)}


def checked_targets(trt: Any, targets: Sequence[str]) -> list[str]:
    """The compute capabilities to build for: `targets` for TensorRT-RTX, that of the GPU for TensorRT.

    Raises SameboxError for targets that the flavour does not support, and NotHere if TensorRT has no GPU to
    build on.
    """
    if trt.__name__ == "tensorrt":
        if targets:
            raise SameboxError(
                f"targets={list(targets)}: TensorRT builds for the GPU of this machine; leave targets empty, "
                "or use flavour=tensorrt_rtx"
            )
        return [default_gpu("TensorRT builds on the GPU on which the engine will run").target]
    known = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    unknown = [name for name in targets if name not in known]
    if unknown or not targets:
        choices = ", ".join(sorted(known, key=_compute_capability))
        raise SameboxError(f"targets={list(targets)}: give one or more of {choices}")
    return list(targets)


def check_options(trt: Any, version_compatible: bool, hardware_compatibility: str | None) -> None:
    """Raises SameboxError for a compatibility option that the flavour does not support."""
    if trt.__name__ == "tensorrt_rtx" and version_compatible:
        raise SameboxError(
            "version_compatible=true: a TensorRT-RTX engine loads only in the version that built it; set it "
            "to false, or use flavour=tensorrt"
        )
    if trt.__name__ == "tensorrt_rtx" and hardware_compatibility:
        raise SameboxError(
            f"hardware_compatibility={hardware_compatibility}: TensorRT-RTX does not support it; set it to "
            "null and name the GPUs in targets, or use flavour=tensorrt"
        )
    levels = [name.lower() for name in trt.HardwareCompatibilityLevel.__members__ if name != "NONE"]
    if hardware_compatibility and hardware_compatibility not in levels:
        raise SameboxError(
            f"hardware_compatibility={hardware_compatibility}: unknown; "
            f"use null or one of {', '.join(levels)}"
        )


def runs_on(gpu: str, targets: Sequence[str], hardware_compatibility: str | None) -> bool:
    """Whether an engine for `targets` runs on a GPU of the compute capability `gpu`, such as SM86."""
    return gpu in targets or (hardware_compatibility == "ampere_plus" and _compute_capability(gpu) >= AMPERE)


def loads_in(installed: str, built: str, version_compatible: bool) -> bool:
    """Whether an engine built by the TensorRT version `built` loads in the version `installed`."""
    if installed == built or not version_compatible:
        return installed == built
    new, old = _version_parts(installed), _version_parts(built)
    return new >= old and (new[0] == old[0] or (old[0], new[0]) in ACROSS_MAJORS)


def _compute_capability(target: str) -> int:
    return int(target.removeprefix("SM"))


def _version_parts(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]
