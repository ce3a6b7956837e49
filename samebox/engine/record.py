"""The record of an engine: the JSON file beside the plan."""

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from samebox.core.errors import NotHere, SameboxError
from samebox.core.files import existing, read_json, sha256
from samebox.core.text import one_line
from samebox.core.typed import from_json
from samebox.engine.compatibility import loads_in, runs_on
from samebox.engine.flavour import FLAVOURS, default_gpu, tensorrt_module
from samebox.engine.profile import Profile
from samebox.record.preprocess import MAX_BATCH, MAX_SIDE


@dataclass(frozen=True)
class EngineReport:
    """The properties of an engine, as its JSON file records them.

    `targets`: the compute capabilities on which it runs, such as SM86. `tf32`: whether fp32 products may be
    rounded to TF32. `peak_memory_mb`: the largest resident memory of the process during the build, None if
    the system does not report it. `metadata`: that of the ONNX file, by which a runner configures itself.
    `layers`: the number of layers of the network. `types`: the number of layers by TensorRT's type of their
    first output, of the "engine" or of the "network" as `types_of` states: of the engine if it could be
    loaded after the build. `shares`: the share of each precision, 0..1, among layers with real numbers.
    """

    flavour: str
    version: str
    opset: int
    targets: list[str]
    profile: Profile
    tf32: bool
    workspace_mb: int
    layers: int
    build_seconds: float
    peak_memory_mb: float | None
    onnx_sha256: str
    plan_sha256: str
    plan_bytes: int
    metadata: dict[str, str]
    built_on: dict[str, Any]
    types: dict[str, int] = field(default_factory=dict)
    types_of: str = "network"
    shares: dict[str, float] = field(default_factory=dict)
    version_compatible: bool = False
    hardware_compatibility: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)


def sidecar(engine: Path) -> Path:
    """The path of the JSON file beside an engine."""
    return engine.with_name(f"{engine.name}.json")


def engine_report(engine: Path) -> EngineReport:
    """The record of `engine`. Raises SameboxError if a file is absent or the record is of another plan."""
    hint = "build the engine again"
    values = read_json(existing(sidecar(existing(engine, hint)), hint))
    try:
        report = from_json(EngineReport, values)
        _check(report)
    except (ValueError, RecursionError, SameboxError) as error:
        reason = one_line(error)
        raise SameboxError(f"{sidecar(engine)}: not the record of an engine ({reason}); {hint}") from None
    if report.plan_sha256 != sha256(engine):
        raise SameboxError(f"{engine}: not the plan that {sidecar(engine).name} records; {hint}")
    return report


def _check(report: EngineReport) -> None:
    """Raises ValueError for an unknown flavour, a version that is none, and shapes out of range."""
    if report.flavour not in FLAVOURS:
        raise ValueError(f"flavour {report.flavour}")
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9}){1,9}", report.version):
        raise ValueError(f"version {report.version}")
    profile = report.profile
    if profile.batch[2] > MAX_BATCH or max(profile.height[2], profile.width[2]) > MAX_SIDE:
        raise ValueError(f"{profile} exceeds a batch of {MAX_BATCH} or sides of {MAX_SIDE}")


def check_loadable(report: EngineReport) -> None:
    """Raises NotHere if this machine cannot run the engine, because of its GPU or its version of TensorRT."""
    name = FLAVOURS[report.flavour][0]
    gpu = default_gpu(f"{name} needs an NVIDIA GPU and its driver").target
    if not runs_on(gpu, report.targets, report.hardware_compatibility):
        newer = " and newer GPUs" if report.hardware_compatibility == "ampere_plus" else ""
        raise NotHere(f"the engine runs on {', '.join(report.targets)}{newer}, and the GPU here is {gpu}")
    version = tensorrt_module(report.flavour).__version__
    if not loads_in(version, report.version, report.version_compatible):
        kind = " (version-compatible)" if report.version_compatible else ""
        raise NotHere(f"the engine was built by {name} {report.version}{kind}, and {version} is installed")
