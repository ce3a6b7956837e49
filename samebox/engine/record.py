"""What the JSON file beside an engine says of it."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from samebox.core.errors import NotHere, SameboxError
from samebox.core.files import existing, read_json, sha256
from samebox.engine.compatibility import loads_in, runs_on
from samebox.engine.flavour import FLAVOURS, gpu_here, tensorrt_module
from samebox.engine.profile import Profile


@dataclass(frozen=True)
class EngineReport:
    """What an engine is, as its JSON file records it.

    `targets` are the compute capabilities it runs on, as in SM86. `tf32` tells whether fp32 products may
    be rounded to TF32. `peak_memory_mb` is the process's largest resident memory during the build, or None
    where the system does not tell. `metadata` is the ONNX file's, from which a runner configures itself.
    `layers` are the network's. `types` counts layers by the type of what they give first, as TensorRT calls
    it; they are `types_of` the "engine", where it could be opened when it was built, or of the "network".
    `shares` is what each precision has of those that give real numbers, 0..1.
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
    """The JSON file beside an engine."""
    return engine.with_name(f"{engine.name}.json")


def engine_report(engine: Path) -> EngineReport:
    """What the JSON file beside `engine` says. Raises SameboxError where the two do not belong together."""
    mend = "build the engine anew"
    values = read_json(existing(sidecar(existing(engine, mend)), mend))
    try:
        report = EngineReport(**{**values, "profile": Profile(**values["profile"])})
    except (TypeError, KeyError):
        raise SameboxError(f"{sidecar(engine)}: not the record of an engine; {mend}") from None
    if report.plan_sha256 != sha256(engine):
        raise SameboxError(f"{engine}: not the plan that {sidecar(engine).name} records; {mend}")
    return report


def check_loadable(report: EngineReport) -> None:
    """Raises NotHere where this machine cannot run the engine: no GPU, another one, or another TensorRT."""
    name = FLAVOURS[report.flavour][0]
    here = gpu_here(f"{name} needs one of NVIDIA's, and its driver").target
    if not runs_on(here, report.targets, report.hardware_compatibility):
        newer = " and newer GPUs" if report.hardware_compatibility == "ampere_plus" else ""
        raise NotHere(f"the engine runs on {', '.join(report.targets)}{newer}, and the GPU here is {here}")
    version = tensorrt_module(report.flavour).__version__
    if not loads_in(version, report.version, report.version_compatible):
        newer = " and loads in newer ones" if report.version_compatible else ""
        raise NotHere(f"the engine is of {name} {report.version}{newer}, and {version} is installed")
