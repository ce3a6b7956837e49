"""An ONNX file to an engine and its record."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from samebox.core.environment import hardware, peak_memory_mb, reset_peak_memory
from samebox.core.errors import SameboxError
from samebox.core.files import atomic_write, sha256, write_json
from samebox.core.gpu import gpus
from samebox.engine.achieved import check_precision, shares, types_in_engine, types_in_network
from samebox.engine.cache import timing_cache
from samebox.engine.compatibility import check_options, targets_of
from samebox.engine.flavour import called, tensorrt_logger, tensorrt_module
from samebox.engine.parse import network_from_onnx
from samebox.engine.profile import Profile
from samebox.engine.progress import shown
from samebox.engine.record import EngineReport, sidecar
from samebox.graph.reading import input_shapes, metadata, onnx_model, opset_of


def engine_from_onnx(
    source: Path,
    target: Path,
    profile: Profile,
    flavour: str = "tensorrt_rtx",
    targets: Sequence[str] = (),
    workspace_mb: int = 4096,
    tf32: bool = False,
    *,
    version_compatible: bool = False,
    hardware_compatibility: str | None = None,
    cache: Path | None = None,
) -> EngineReport:
    """Build the ONNX file `source` into the engine `target` and its JSON file, see `sidecar`.

    `targets` are the compute capabilities that TensorRT-RTX builds for, as in SM86; TensorRT takes none,
    it builds for the GPU here. `workspace_mb` bounds the scratch memory of any layer. Networks are
    strongly typed: the precision is the ONNX file's own.

    Of TensorRT alone: `version_compatible` engines also load in newer versions; `hardware_compatibility`
    ("ampere_plus" or "same_compute_capability") lets them run on other GPUs; `cache` is a folder in which
    the timings of kernels are kept, see `samebox.engine.cache`.

    Raises NotHere where the flavour is not installed or has no GPU to build on; SameboxError where the
    profile contradicts the graph, the flavour does not offer what is asked, the graph has nodes that
    TensorRT does not take, each of them named, or is not in the precision that its record says.
    """
    trt = tensorrt_module(flavour)
    check_options(trt, version_compatible, hardware_compatibility)
    chosen = targets_of(trt, targets)
    options = _Options(chosen, workspace_mb, tf32, version_compatible, hardware_compatibility)
    model = onnx_model(source)
    profile = profile.within(input_shapes(model, source)["images"], source)
    plan, measured = _built(trt, model, source, profile, options, cache)
    sidecar(target).unlink(missing_ok=True)  # killed before the new one is there, the engine is refused
    with atomic_write(target) as aside:
        aside.write_bytes(plan)
    report = EngineReport(
        flavour=flavour,
        version=trt.__version__,
        opset=opset_of(model),
        profile=profile,
        onnx_sha256=sha256(source),
        plan_sha256=sha256(target),
        plan_bytes=target.stat().st_size,
        metadata=metadata(model),
        built_on=hardware(),
        **measured,
        **vars(options),
    )
    write_json(sidecar(target), report.as_dict())
    return report


@dataclass(frozen=True)
class _Options:
    """What a build was asked for, under the names that the record has."""

    targets: list[str]
    workspace_mb: int
    tf32: bool
    version_compatible: bool = False
    hardware_compatibility: str | None = None


def _built(
    trt: Any, model: onnx.ModelProto, source: Path, profile: Profile, options: _Options, cache: Path | None
) -> tuple[Any, dict[str, Any]]:
    """The plan, and what the record says of the build: seconds, memory, layers and their types."""
    reset_peak_memory()
    started = time.perf_counter()
    builder = trt.Builder(tensorrt_logger(trt))
    network = network_from_onnx(trt, builder, model, source)
    types = types_in_network(network)
    check_precision(types, metadata(model), source)
    plan = _plan(trt, builder, network, _config(trt, builder, profile, options), source, cache)
    seconds = round(time.perf_counter() - started, 3)
    inspected = _inspected(trt, plan, options)
    return plan, {
        "layers": network.num_layers,
        "build_seconds": seconds,
        "peak_memory_mb": peak_memory_mb(),
        "types": inspected or types,
        "types_of": "engine" if inspected else "network",
        "shares": shares(inspected or types),
    }


def _config(trt: Any, builder: Any, profile: Profile, options: _Options) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the inspector tells no types
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatibility:
        levels = trt.HardwareCompatibilityLevel.__members__
        config.hardware_compatibility_level = levels[options.hardware_compatibility.upper()]
    if trt.__name__ == "tensorrt_rtx":
        config.num_compute_capabilities = len(options.targets)
        for index, target in enumerate(options.targets):
            config.set_compute_capability(trt.ComputeCapability.__members__[target], index)
    shapes = builder.create_optimization_profile()
    for name in ("images", "sizes"):
        shapes.set_shape(name, *profile.shapes(name))
    config.add_optimization_profile(shapes)
    return config


def _plan(trt: Any, builder: Any, network: Any, config: Any, source: Path, cache: Path | None) -> Any:
    """The serialized engine. Raises SameboxError with what TensorRT says where it does not build."""
    logger = tensorrt_logger(trt)
    logger.errors.clear()
    with ExitStack() as stack:
        if cache is not None and trt.__name__ == "tensorrt":
            stack.enter_context(timing_cache(trt, config, cache))
        with shown(trt, config):
            plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise SameboxError(f"{source}: {called(trt)} does not build it: {logger.said()}")
    return plan


def _inspected(trt: Any, plan: Any, options: _Options) -> dict[str, int]:
    """The types of the engine's layers, where the GPU here can open it, see `types_in_engine`."""
    here = [gpu.target for gpu in gpus()[:1]]
    if not set(here) & set(options.targets):
        return {}
    return types_in_engine(trt, plan, options.version_compatible)
