"""An engine and its record from an ONNX file."""

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
from samebox.engine.cache import timing_cache
from samebox.engine.compatibility import check_options, checked_targets
from samebox.engine.flavour import flavour_name, tensorrt_logger, tensorrt_module
from samebox.engine.layer_types import (
    check_requested_precision,
    engine_layer_types,
    network_layer_types,
    precision_shares,
)
from samebox.engine.parse import network_from_onnx
from samebox.engine.profile import Profile
from samebox.engine.progress import build_progress
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
    """Build the engine `target` and its JSON file (see `sidecar`) from the ONNX file `source`.

    `targets` are the compute capabilities for which TensorRT-RTX builds, such as SM86. For TensorRT they must
    be empty, because it builds for the GPU of this machine. `workspace_mb` limits the scratch memory of each
    layer. The network is strongly typed: the precision is that of the ONNX file.

    For TensorRT only: with `version_compatible` the engine also loads in newer versions;
    `hardware_compatibility` ("ampere_plus" or "same_compute_capability") lets it run on other GPUs; `cache`
    is a folder for the timing cache, see `samebox.engine.cache`.

    Raises NotHere if the flavour is not installed or has no GPU to build on. Raises SameboxError if a fixed
    dimension of the graph is outside the profile, if the flavour does not support an option, if TensorRT
    does not support some nodes (the error names each), if no layer has the precision that the file's record
    states, or if the build fails.
    """
    trt = tensorrt_module(flavour)
    check_options(trt, version_compatible, hardware_compatibility)
    targets = checked_targets(trt, targets)
    options = _Options(targets, workspace_mb, tf32, version_compatible, hardware_compatibility)
    model = onnx_model(source)
    profile = profile.within(input_shapes(model, source)["images"], source)
    plan, build_record = _build(trt, model, source, profile, options, cache)
    # without a record the engine is refused if the process is killed before it writes the new one
    sidecar(target).unlink(missing_ok=True)
    with atomic_write(target) as temporary:
        temporary.write_bytes(plan)
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
        **build_record,
        **vars(options),
    )
    write_json(sidecar(target), report.as_dict())
    return report


@dataclass(frozen=True)
class _Options:
    """Options of a build, under their names in the record."""

    targets: Sequence[str]
    workspace_mb: int
    tf32: bool
    version_compatible: bool = False
    hardware_compatibility: str | None = None


def _build(
    trt: Any, model: onnx.ModelProto, source: Path, profile: Profile, options: _Options, cache: Path | None
) -> tuple[Any, dict[str, Any]]:
    """The plan, and the record's fields about the build: time, memory, layers and their types."""
    reset_peak_memory()
    started = time.perf_counter()
    builder = trt.Builder(tensorrt_logger(trt))
    network = network_from_onnx(trt, builder, model, source)
    types = network_layer_types(network)
    check_requested_precision(types, metadata(model), source)
    plan = _plan(trt, builder, network, _config(trt, builder, profile, options), source, cache)
    seconds = round(time.perf_counter() - started, 3)
    engine_types = _engine_types(trt, plan, options)
    return plan, {
        "layers": network.num_layers,
        "build_seconds": seconds,
        "peak_memory_mb": peak_memory_mb(),
        "types": engine_types or types,
        "types_of": "engine" if engine_types else "network",
        "shares": precision_shares(engine_types or types),
    }


def _config(trt: Any, builder: Any, profile: Profile, options: _Options) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # otherwise the inspector reports no types
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
    """The serialized engine. Raises SameboxError with TensorRT's error messages if the build fails."""
    logger = tensorrt_logger(trt)
    logger.errors.clear()
    with ExitStack() as stack:
        if cache is not None and trt.__name__ == "tensorrt":
            stack.enter_context(timing_cache(trt, config, cache))
        with build_progress(trt, config):
            plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise SameboxError(f"{source}: {flavour_name(trt)} cannot build it: {logger.error_text()}")
    return plan


def _engine_types(trt: Any, plan: Any, options: _Options) -> dict[str, int]:
    """The types of the engine's layers; empty if the default GPU is no target or the engine does not load."""
    default_gpu = [gpu.target for gpu in gpus()[:1]]
    if not set(default_gpu) & set(options.targets):
        return {}
    return engine_layer_types(trt, plan, options.version_compatible)
