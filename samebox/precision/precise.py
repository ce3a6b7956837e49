"""The conversion: which nodes, in which precision, looked at on real images first, read back at the end."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from samebox.core.errors import SameboxError
from samebox.core.files import atomic_write
from samebox.graph.opset import check_opset
from samebox.graph.reading import input_shapes, metadata, onnx_model, opset_of
from samebox.precision.achieved import Achieved, achieved, check_achieved
from samebox.precision.half import HALVES, largest, put_in_half
from samebox.precision.overflow import Feed, largest_values
from samebox.precision.quantized import Calibration, quantized
from samebox.precision.rule import Rule
from samebox.record.preprocess import read_image
from samebox.record.spec import METADATA_KEY, PRECISION_KEY, Spec

PRECISIONS = (*HALVES, "int8")
CALIBRATION = Calibration()
# The first at which DequantizeLinear takes a scale for each channel
CHANNELS_OPSET = 13


@dataclass(frozen=True)
class PrecisionReport:
    """What became of a conversion.

    `products` counts the products with weights by the precision that was read back, `operators` the nodes by
    the type of what they give, and operator. `overflows` are the tensors that exceeded the type on the
    calibration `images`, with their largest magnitude; the nodes that touch them are in fp32, as are those
    that the rule keeps: `kept` lists the products among both.
    """

    precision: str
    opset: int
    products: dict[str, int]
    operators: dict[str, dict[str, int]]
    kept: list[str]
    overflows: dict[str, float]
    images: int
    calibration: Calibration | None

    def __str__(self) -> str:
        found = ", ".join(f"{count} in {name}" for name, count in self.products.items())
        return f"products with weights: {found}" + (f"; {_told(self.overflows)}" if self.overflows else "")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)


def precise_onnx(
    source: Path,
    target: Path,
    precision: str,
    rule: Rule,
    images: Sequence[Path],
    *,
    overflow: str = "fp32",
    calibration: Calibration = CALIBRATION,
    opset: int | None = None,
) -> PrecisionReport:
    """Write to `target` the graph of `source` with what `rule` chooses in fp16, bf16 or int8.

    Inputs, outputs, metadata and all that the rule does not choose are as before. The graph first runs on
    `images`, brought onto their canvas as the record in the file says: for a 16-bit type to find the tensors
    that exceed it, whose nodes then stay in fp32 or, with `overflow="error"`, end the conversion; for int8 to
    take the ranges by `calibration`. `opset` is that of the result, by default the file's own.

    Raises SameboxError for a value that is none of these, where there is no image or nothing to convert,
    where an operator does not take the type at the opset, and where the result is not what was asked for.
    """
    _check_asked(precision, overflow, images)
    model = _named(_at_opset(onnx_model(source), opset, source))
    overflows: dict[str, float] = {}
    _check_some(rule.chosen(model.graph), source)
    if precision == "int8":
        _check_channels(opset_of(model), source)
        chosen = [node.name for node in rule.chosen(model.graph)]
        converted = quantized(model, chosen, _feeds(model, source, images), calibration)
    else:
        overflows = _overflows(model, rule, precision, _feeds(model, source, images))
        if overflows and overflow == "error":
            raise SameboxError(
                f"{source}: {_told(overflows)} beyond {largest(precision):.5g}, the largest {precision}; "
                "set precision.overflow=fp32 to leave them in fp32, or take bf16"
            )
        _check_some(rule.chosen(model.graph, overflows), source)
        chosen = [node.name for node in rule.chosen(model.graph, overflows)]
        converted = onnx.ModelProto()
        converted.CopyFrom(model)
        put_in_half(converted, rule.region(converted.graph, opset_of(model), overflows), precision)
    found = _write(converted, metadata(model), target, precision, rule, chosen)
    return PrecisionReport(
        precision=precision,
        opset=opset_of(converted),
        products=found.counts(),
        operators=found.operators,
        kept=[name for name in found.products if name not in chosen],
        overflows=overflows,
        images=len(images),
        calibration=calibration if precision == "int8" else None,
    )


def _check_asked(precision: str, overflow: str, images: Sequence[Path]) -> None:
    if precision not in PRECISIONS:
        raise SameboxError(f"precision.name: {precision!r} is none of {', '.join(PRECISIONS)}")
    if overflow not in ("fp32", "error"):
        raise SameboxError(f"precision.overflow: {overflow!r} is neither fp32 nor error")
    if not images:
        raise SameboxError("precision.images: no image to calibrate with; name a folder that holds some")


def _check_some(chosen: Sequence[onnx.NodeProto], source: Path) -> None:
    if not chosen:
        raise SameboxError(
            f"{source}: nothing is left to convert: it has no product with weights, or all of them overflow "
            "or are named in precision.keep"
        )


def _at_opset(model: onnx.ModelProto, opset: int | None, source: Path) -> onnx.ModelProto:
    """The model at a newer opset, which its record then names. Raises SameboxError for an older one."""
    found = opset_of(model)
    if opset is None or opset == found:
        return model
    check_opset(opset)
    if opset < found:
        raise SameboxError(
            f"precision.opset={opset}: {source} is at opset {found} already; take that, or null"
        )
    converted = onnx.version_converter.convert_version(model, opset)
    spec = replace(Spec.from_metadata(metadata(model), str(source)), opset=opset)
    helper.set_model_props(converted, metadata(model) | {METADATA_KEY: spec.to_json()})
    return converted


def _check_channels(opset: int, source: Path) -> None:
    """Raise SameboxError for an opset without scales by channel."""
    if opset < CHANNELS_OPSET:
        raise SameboxError(
            f"{source}: int8 with a scale for each channel takes opset {CHANNELS_OPSET}, and the file is at "
            f"{opset}; set precision.opset={CHANNELS_OPSET}"
        )


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a name of its own for each node, by which ONNX Runtime's quantisation chooses."""
    seen = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}_{node.output[0]}"
        seen.add(node.name)
    return model


def _feeds(model: onnx.ModelProto, source: Path, images: Sequence[Path]) -> Iterator[Feed]:
    """What the network is asked for each image, repeated where its batch is fixed."""
    preprocess = Spec.from_metadata(metadata(model), str(source)).preprocess
    batch = max(input_shapes(model, source)["images"][0], 1)
    return (preprocess([read_image(image)] * batch).inputs() for image in images)


def _overflows(model: onnx.ModelProto, rule: Rule, precision: str, feeds: Iterator[Feed]) -> dict[str, float]:
    """The tensors of the region whose largest magnitude is beyond the type."""
    values = largest_values(model, rule.region(model.graph, opset_of(model)), feeds)
    return {name: value for name, value in values.items() if value > largest(precision)}


def _told(overflows: dict[str, float]) -> str:
    return ", ".join(f"{name} reaches {value:.5g}" for name, value in overflows.items())


def _write(
    model: onnx.ModelProto,
    properties: dict[str, str],
    target: Path,
    precision: str,
    rule: Rule,
    chosen: Sequence[str],
) -> Achieved:
    """Write the model with its records, once what it holds is what was asked for: that is returned."""
    found = achieved(model, rule)
    check_achieved(found, precision, chosen, str(target))
    record = json.dumps({"asked": precision, "products": found.counts()}, sort_keys=True)
    model.producer_name, model.producer_version = "samebox", ""
    helper.set_model_props(model, properties | {PRECISION_KEY: record})
    onnx.checker.check_model(model, full_check=True)
    with atomic_write(target) as aside:
        aside.write_bytes(model.SerializeToString(deterministic=True))
    return found
