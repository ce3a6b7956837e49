"""TensorRT engines from ONNX, for TensorRT-RTX and for TensorRT, which share one API.

TensorRT-RTX builds ahead of time for the compute capabilities it is told of and needs no GPU; TensorRT
builds on the GPU that the engine will run on. An engine is a pair of files: the plan, and beside it a JSON
that says what is in the plan and carries its hash.
"""

import functools
import importlib
import logging
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from samebox.environment import hardware, peak_memory_mb, reset_peak_memory
from samebox.errors import SameboxError
from samebox.files import existing, read_json, sha256, write_json, written_aside
from samebox.gpu import gpus
from samebox.graphs import all_nodes, input_shapes, metadata, onnx_model, opset_of

log = logging.getLogger(__name__)

# Module → what it is called, and how it is installed.
FLAVOURS = {
    "tensorrt_rtx": ("TensorRT-RTX", "pip install tensorrt-rtx"),
    "tensorrt": ("TensorRT", "pip install samebox[tensorrt]"),
}

# TensorRT's own limit on the K of a TopK layer.
LARGEST_K = 3840

# Operators that export.lowering=portable does without.
LOWERED = {"NonMaxSuppression", "RoiAlign", "NonZero", "DeformConv", "TopK"}

# The parser of TensorRT-RTX claims these, and then finds no kernel (NonMaxSuppression), no plugin (NonZero),
# or needs a GPU at build time (RoiAlign).
BEYOND_RTX = {"NonMaxSuppression", "RoiAlign", "NonZero"}

_ERRORS_SHOWN = 8


class NotHere(Exception):  # noqa: N818 - not a failure: another machine can do it
    """What was asked cannot be done on this machine. Its text is one line that says why."""


@dataclass(frozen=True)
class Profile:
    """(least, usual, largest) batch, height and width that an engine serves; it is tuned for the usual."""

    batch: tuple[int, int, int]
    height: tuple[int, int, int]
    width: tuple[int, int, int]

    def __post_init__(self) -> None:
        """Raises SameboxError where a triple is not 1 <= least <= usual <= largest."""
        for name, values in asdict(self).items():
            ordered = len(values) == 3 and 1 <= values[0] <= values[1] <= values[2]
            if not ordered:
                raise SameboxError(
                    f"profile.{name}={list(values)}: give [least, usual, largest] in that order, from 1 up"
                )
            object.__setattr__(self, name, tuple(values))  # a configuration gives lists

    def within(self, dimensions: Sequence[int], onnx_file: Path) -> "Profile":
        """The profile for a graph whose `images` have `dimensions` [batch,3,height,width], -1 being dynamic.

        A fixed dimension replaces its range. Raises SameboxError where it lies outside it.
        """
        fixed = dict(zip(("batch", "height", "width"), (dimensions[0], *dimensions[2:]), strict=True))
        narrowed = asdict(self)
        for name, value in fixed.items():
            least, _, largest = narrowed[name]
            if value > 0 and not least <= value <= largest:
                raise SameboxError(
                    f"{onnx_file}: its {name} is fixed at {value}, outside profile.{name}={least}..{largest};"
                    " change the profile, or export it dynamic"
                )
            if value > 0:
                narrowed[name] = (value, value, value)
        return Profile(**narrowed)

    def check(self, shape: Sequence[int]) -> None:
        """Raises SameboxError where images of `shape` [batch,3,height,width] are outside the profile."""
        ranges = (self.batch, (3, 3, 3), self.height, self.width)
        served = len(shape) == 4 and all(r[0] <= d <= r[2] for d, r in zip(shape, ranges, strict=True))
        if not served:
            raise SameboxError(
                f"images of shape {list(shape)} are outside the engine's profile: "
                f"batch {_range(self.batch)}, height {_range(self.height)}, width {_range(self.width)}; "
                "build an engine for them"
            )

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        """The least, usual and largest shape of the input `name`, images or sizes."""
        triples = zip(self.batch, self.height, self.width, strict=True)
        return [(b, 3, h, w) if name == "images" else (b, 2) for b, h, w in triples]


def _range(triple: tuple[int, int, int]) -> str:
    return f"{triple[0]}..{triple[2]}"


@dataclass(frozen=True)
class EngineReport:
    """What an engine is, as its JSON file records it.

    `targets` are the compute capabilities it runs on, as in SM86. `tf32` tells whether fp32 products may
    be rounded to TF32. `peak_memory_mb` is the process's largest resident memory during the build, or None
    where the system does not tell. `metadata` is the ONNX file's, from which a runner configures itself.
    `types` counts the layers by the type of what they give first, as TensorRT calls it.
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

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)


def engine_from_onnx(
    source: Path,
    target: Path,
    profile: Profile,
    flavour: str = "tensorrt_rtx",
    targets: Sequence[str] = (),
    workspace_mb: int = 4096,
    tf32: bool = False,
) -> EngineReport:
    """Build the ONNX file `source` into the engine `target` and its JSON file, see `sidecar`.

    `targets` are the compute capabilities that TensorRT-RTX builds for, as in SM86; TensorRT takes none,
    it builds for the GPU here. `workspace_mb` bounds the scratch memory of any layer. Networks are
    strongly typed: the precision is the ONNX file's own.

    Raises NotHere where the flavour is not installed or has no GPU to build on; SameboxError where the
    profile contradicts the graph, a target is unknown, or the graph has nodes that TensorRT does not
    take, each of them named.
    """
    trt = tensorrt_module(flavour)
    chosen = _targets(trt, flavour, targets)
    model = onnx_model(source)
    profile = profile.within(input_shapes(model, source)["images"], source)
    reset_peak_memory()
    started = time.perf_counter()
    builder = trt.Builder(tensorrt_logger(trt))
    network = _network(trt, builder, model, source)
    plan = _plan(trt, builder, network, _config(trt, builder, profile, chosen, workspace_mb, tf32), source)
    seconds = round(time.perf_counter() - started, 3)
    sidecar(target).unlink(missing_ok=True)  # killed before the new one is there, the engine is refused
    with written_aside(target) as aside:
        aside.write_bytes(plan)
    report = EngineReport(
        flavour=flavour,
        version=trt.__version__,
        opset=opset_of(model),
        targets=chosen,
        profile=profile,
        tf32=tf32,
        workspace_mb=workspace_mb,
        layers=network.num_layers,
        build_seconds=seconds,
        peak_memory_mb=peak_memory_mb(),
        onnx_sha256=sha256(source),
        plan_sha256=sha256(target),
        plan_bytes=target.stat().st_size,
        metadata=metadata(model),
        built_on=hardware(),
        types=_types(network),
    )
    write_json(sidecar(target), report.as_dict())
    return report


# --- Which TensorRT, for which GPU ---


def tensorrt_module(flavour: str) -> Any:
    """The module of that name, once it can build or run here."""
    if flavour not in FLAVOURS:
        raise SameboxError(f"flavour={flavour}: unknown; take one of {', '.join(FLAVOURS)}")
    name, install = FLAVOURS[flavour]
    try:
        return importlib.import_module(flavour)
    except ImportError:
        raise NotHere(f"{name} is not installed: {install}") from None


def _targets(trt: Any, flavour: str, targets: Sequence[str]) -> list[str]:
    """`targets` once they are known to be sound; for TensorRT, the GPU it builds on."""
    if flavour == "tensorrt":
        if targets:
            raise SameboxError(
                f"targets={list(targets)}: TensorRT builds for the GPU here; leave targets empty, "
                "or take flavour=tensorrt_rtx"
            )
        return [_gpu_here("TensorRT builds on the one that the engine will run on")]
    known = sorted((name for name in trt.ComputeCapability.__members__ if name.startswith("SM")), key=_number)
    unknown = [name for name in targets if name not in known]
    if unknown or not targets:
        raise SameboxError(f"targets={list(targets)}: give one or more of {', '.join(known)}")
    return list(targets)


def _number(target: str) -> int:
    return int(target.removeprefix("SM"))


def _gpu_here(purpose: str) -> str:
    """The compute capability of the GPU that CUDA takes by default."""
    found = gpus()
    if not found:
        raise NotHere(f"no GPU here; {purpose}")
    return found[0].target


# --- The build ---


def _network(trt: Any, builder: Any, model: onnx.ModelProto, source: Path) -> Any:
    """The network that `source` holds. Raises SameboxError that names the nodes TensorRT does not take."""
    logger = tensorrt_logger(trt)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    refused = dict(_unsupported(trt, parser, model.graph))
    logger.errors.clear()
    parsed = parser.parse_from_file(str(source))
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        refused.setdefault((error.node_name(), error.node_operator()), " ".join(error.desc().split()))
    if refused:
        raise SameboxError(f"{source}: {_account(refused)}")
    if not parsed:
        raise SameboxError(f"{source}: {_called(trt)} does not parse it: {logger.said()}")
    return network


def _config(
    trt: Any, builder: Any, profile: Profile, targets: Sequence[str], workspace_mb: int, tf32: bool
) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb << 20)
    if not tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if trt.__name__ == "tensorrt_rtx":
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            config.set_compute_capability(trt.ComputeCapability.__members__[target], index)
    shapes = builder.create_optimization_profile()
    for name in ("images", "sizes"):
        shapes.set_shape(name, *profile.shapes(name))
    config.add_optimization_profile(shapes)
    return config


def _plan(trt: Any, builder: Any, network: Any, config: Any, source: Path) -> Any:
    """The serialized engine. Raises SameboxError with what TensorRT says where it does not build."""
    logger = tensorrt_logger(trt)
    logger.errors.clear()
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise SameboxError(f"{source}: {_called(trt)} does not build it: {logger.said()}")
    return plan


def _types(network: Any) -> dict[str, int]:
    """How many layers give which type; a strongly typed engine keeps to these."""
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return dict(
        sorted(Counter(layer.get_output_type(0).name for layer in layers if layer.num_outputs).items())
    )


def _called(trt: Any) -> str:
    return FLAVOURS[trt.__name__][0]


def _unsupported(trt: Any, parser: Any, graph: onnx.GraphProto) -> Iterator[tuple[tuple[str, str], str]]:
    """((node name, operator), why) of the nodes that TensorRT is known not to take."""
    constants = _integers(graph)
    for node in all_nodes(graph):
        beyond_rtx = trt.__name__ == "tensorrt_rtx" and node.op_type in BEYOND_RTX
        if beyond_rtx or not parser.supports_operator(node.op_type):
            yield (node.name, node.op_type), f"not an operator of {_called(trt)}"
        elif node.op_type == "TopK" and constants.get(node.input[1], 0) > LARGEST_K:
            yield (node.name, node.op_type), f"K={constants[node.input[1]]} is above {LARGEST_K}"


def _integers(graph: onnx.GraphProto) -> dict[str, int]:
    """The constants of the graph and its subgraphs that hold a single integer, by name."""
    nodes = list(all_nodes(graph))
    graphs = [graph, *(a.g for node in nodes for a in node.attribute if a.HasField("g"))]
    values: dict[str, Any] = {tensor.name: tensor for part in graphs for tensor in part.initializer}
    for node in nodes:
        if node.op_type == "Constant":
            values[node.output[0]] = onnx.helper.get_attribute_value(node.attribute[0])
    return {name: integer for name, value in values.items() if (integer := _integer(value)) is not None}


def _integer(value: Any) -> int | None:
    """What a tensor, a number or a list holds, if that is one integer."""
    if isinstance(value, onnx.TensorProto):
        single = value.data_type == onnx.TensorProto.INT64 and math.prod(value.dims) == 1
        return int(numpy_helper.to_array(value).item()) if single else None
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    return value if isinstance(value, int) else None


def _account(refused: dict[tuple[str, str], str]) -> str:
    """One line on the nodes that were refused, and the mend."""
    told = [f"{name or 'a nameless node'} ({operator}): {why}" for (name, operator), why in refused.items()]
    more = f"; and {len(told) - _ERRORS_SHOWN} more" if len(told) > _ERRORS_SHOWN else ""
    mends = ["export with export.lowering=portable"] if any(o in LOWERED for _, o in refused) else []
    if any(o not in LOWERED for _, o in refused):
        mends.append("have the network do without the operators that have no portable form")
    count = "1 node does" if len(told) == 1 else f"{len(told)} nodes do"
    return f"{count} not parse: {'; '.join(told[:_ERRORS_SHOWN])}{more}; {' and '.join(mends)}"


@functools.cache
def tensorrt_logger(trt: Any) -> Any:
    """TensorRT's messages into `logging`. One for the process: TensorRT keeps to the first it is given.

    Its `errors` are the messages of failures since they were last cleared.
    """
    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.WARNING,
        trt.ILogger.Severity.INFO: logging.DEBUG,
    }

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity)
            if level is None:  # thousands of lines that are of use to TensorRT's authors
                return
            log.log(level, "%s: %s", trt.__name__, message)
            if level == logging.ERROR:
                self.errors.append(message)

        def said(self) -> str:
            return "; ".join(" ".join(error.split()) for error in self.errors) or "it does not say why"

    return Logger()


# --- Reading an engine ---


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
    here = _gpu_here(f"{name} needs one of NVIDIA's, and its driver")
    if here not in report.targets:
        raise NotHere(f"the engine runs on {', '.join(report.targets)}, and the GPU here is {here}")
    version = tensorrt_module(report.flavour).__version__
    if version != report.version:
        raise NotHere(f"the engine is of {name} {report.version}, and {version} is installed")
