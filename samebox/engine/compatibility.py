"""What an engine asks of the machine that runs it, beyond the one it was built for."""

import re
from collections.abc import Sequence
from typing import Any

from samebox.core.errors import SameboxError
from samebox.engine.flavour import gpu_here

# The least compute capability that hardware_compatibility=ampere_plus serves
AMPERE = 80

# Major versions of TensorRT between which a version-compatible engine may go, besides one to itself
ACROSS_MAJORS = {(10, 11)}


def targets_of(trt: Any, targets: Sequence[str]) -> list[str]:
    """`targets` once they are known to be sound; for TensorRT, the GPU it builds on.

    Raises SameboxError for targets that the flavour does not take, NotHere where it has no GPU to build on.
    """
    if trt.__name__ == "tensorrt":
        if targets:
            raise SameboxError(
                f"targets={list(targets)}: TensorRT builds for the GPU here; leave targets empty, "
                "or take flavour=tensorrt_rtx"
            )
        return [gpu_here("TensorRT builds on the one that the engine will run on").target]
    known = sorted((name for name in trt.ComputeCapability.__members__ if name.startswith("SM")), key=_number)
    unknown = [name for name in targets if name not in known]
    if unknown or not targets:
        raise SameboxError(f"targets={list(targets)}: give one or more of {', '.join(known)}")
    return list(targets)


def check_options(trt: Any, version_compatible: bool, hardware_compatibility: str | None) -> None:
    """Raises SameboxError for a compatibility that the flavour does not offer."""
    if trt.__name__ == "tensorrt_rtx" and version_compatible:
        raise SameboxError(
            "version_compatible=true: an engine of TensorRT-RTX loads in its own version alone; set it to "
            "false, or take flavour=tensorrt"
        )
    if trt.__name__ == "tensorrt_rtx" and hardware_compatibility:
        raise SameboxError(
            f"hardware_compatibility={hardware_compatibility}: TensorRT-RTX has none; set it to null and "
            "name the GPUs in targets, or take flavour=tensorrt"
        )
    levels = [name.lower() for name in trt.HardwareCompatibilityLevel.__members__ if name != "NONE"]
    if hardware_compatibility and hardware_compatibility not in levels:
        raise SameboxError(
            f"hardware_compatibility={hardware_compatibility}: unknown; "
            f"take null or one of {', '.join(levels)}"
        )


def runs_on(gpu: str, targets: Sequence[str], hardware_compatibility: str | None) -> bool:
    """Whether an engine for `targets` runs on a GPU of the compute capability `gpu`, as in SM86."""
    return gpu in targets or (hardware_compatibility == "ampere_plus" and _number(gpu) >= AMPERE)


def loads_in(installed: str, built: str, version_compatible: bool) -> bool:
    """Whether an engine of the version `built` loads in the version `installed`."""
    if installed == built or not version_compatible:
        return installed == built
    here, there = _parts(installed), _parts(built)
    return here >= there and (here[0] == there[0] or (there[0], here[0]) in ACROSS_MAJORS)


def _number(target: str) -> int:
    return int(target.removeprefix("SM"))


def _parts(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]
