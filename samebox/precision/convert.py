"""Conversion of an fp32 ONNX file to fp16, bf16 or int8, checked by reading the result back."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from samebox.core.errors import SameboxError
from samebox.core.files import atomic_write
from samebox.core.progress import tracked
from samebox.graph.opset import check_opset
from samebox.graph.reading import input_shapes, metadata, onnx_model, opset_of
from samebox.precision.achieved import AchievedPrecision, achieved_precision, check_achieved_precision
from samebox.precision.overflow import Feed, largest_magnitudes
from samebox.precision.quantized import Calibration, quantized
from samebox.precision.rule import PrecisionRule
from samebox.precision.sixteen_bit import SIXTEEN_BIT_TYPES, convert_to_sixteen_bit, largest_finite
from samebox.record.preprocess import read_image
from samebox.record.spec import METADATA_KEY, PRECISION_KEY, Spec

PRECISIONS = (*SIXTEEN_BIT_TYPES, "int8")
CALIBRATION = Calibration()
# The first opset whose DequantizeLinear takes one scale per channel
PER_CHANNEL_OPSET = 13


@dataclass(frozen=True)
class PrecisionReport:
    """The result of a conversion.

    `products` counts the products (see `PrecisionRule`) by the precision read back from the file, and
    `operators` the nodes by type of their first output and operator. `overflows` maps the tensors that
    exceeded the type on the calibration `images` to their largest magnitude. `kept` lists the products that
    stay in fp32, because of an overflow or of the rule.
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
        counts = ", ".join(f"{count} in {precision}" for precision, count in self.products.items())
        overflows = f"; {_overflow_text(self.overflows)}" if self.overflows else ""
        return f"products with weights: {counts}{overflows}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)


def convert_precision(
    source: Path,
    target: Path,
    precision: str,
    rule: PrecisionRule,
    images: Sequence[Path],
    *,
    overflow: str = "fp32",
    calibration: Calibration = CALIBRATION,
    opset: int | None = None,
) -> PrecisionReport:
    """Write to `target` the graph of `source` with the nodes that `rule` selects in fp16, bf16 or int8.

    Inputs, outputs, metadata and all other nodes stay as they are. First the graph runs on `images`, which
    are preprocessed as the record in the file states. For a 16-bit type that finds the tensors that exceed
    it: nodes that touch them stay in fp32 or, with `overflow="error"`, the conversion fails. For int8 it
    gives the ranges, by `calibration`. `opset` is the opset of the result; the default is that of `source`.

    Raises SameboxError for an unknown precision or overflow value, without images, if no product can be
    converted, if an operator does not support the type at the opset, and if the result is not in the
    requested precision.
    """
    _check_arguments(precision, overflow, images)
    model = _with_unique_node_names(_at_opset(onnx_model(source), opset, source))
    properties = metadata(model)
    products = _products(model, rule, source)
    overflows: dict[str, float] = {}
    if precision == "int8":
        _check_per_channel(opset_of(model), source)
        model = quantized(model, products, _feeds(model, source, images), calibration)
    else:
        overflows = _overflows(model, rule, precision, _feeds(model, source, images))
        _check_overflows(overflows, overflow, precision, source)
        products = _products(model, rule, source, overflows)
        nodes = rule.converted_nodes(model.graph, opset_of(model), overflows)
        convert_to_sixteen_bit(model, nodes, precision)
    achieved = _write(model, properties, target, precision, rule, products)
    return PrecisionReport(
        precision=precision,
        opset=opset_of(model),
        products=achieved.counts(),
        operators=achieved.operators,
        kept=[name for name in achieved.products if name not in products],
        overflows=overflows,
        images=len(images),
        calibration=calibration if precision == "int8" else None,
    )


def _check_arguments(precision: str, overflow: str, images: Sequence[Path]) -> None:
    if precision not in PRECISIONS:
        raise SameboxError(f"precision.name: {precision!r} is none of {', '.join(PRECISIONS)}")
    if overflow not in ("fp32", "error"):
        raise SameboxError(f"precision.overflow: {overflow!r} is neither fp32 nor error")
    if not images:
        raise SameboxError("precision.images: no image to calibrate with; give a folder that contains images")


def _products(
    model: onnx.ModelProto, rule: PrecisionRule, source: Path, overflowing: Collection[str] = ()
) -> list[str]:
    """The node names of the products to convert. Raises SameboxError if there is none."""
    products = [node.name for node in rule.converted_products(model.graph, overflowing)]
    if not products:
        raise SameboxError(
            f"{source}: nothing to convert: it has no product with weights, or all of them overflow or match "
            "precision.keep"
        )
    return products


def _at_opset(model: onnx.ModelProto, opset: int | None, source: Path) -> onnx.ModelProto:
    """The model, and the opset in its record, at a newer opset. Raises SameboxError for an older one."""
    current = opset_of(model)
    if opset is None or opset == current:
        return model
    check_opset(opset)
    if opset < current:
        raise SameboxError(
            f"precision.opset={opset}: {source} is at opset {current} already; give that opset, or null"
        )
    converted = onnx.version_converter.convert_version(model, opset)
    spec = replace(Spec.from_metadata(metadata(model), str(source)), opset=opset)
    helper.set_model_props(converted, metadata(model) | {METADATA_KEY: spec.to_json()})
    return converted


def _check_per_channel(opset: int, source: Path) -> None:
    """Raises SameboxError for an opset whose DequantizeLinear takes no scale per channel."""
    if opset < PER_CHANNEL_OPSET:
        raise SameboxError(
            f"{source}: int8 with one scale per channel needs opset {PER_CHANNEL_OPSET}, and the file is at "
            f"{opset}; set precision.opset={PER_CHANNEL_OPSET}"
        )


def _with_unique_node_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a unique name for each node, because ONNX Runtime's quantizer selects nodes by name."""
    names = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in names:
            node.name = f"{node.op_type}_{index}_{node.output[0]}"
        names.add(node.name)
    return model


def _feeds(model: onnx.ModelProto, source: Path, images: Sequence[Path]) -> Iterator[Feed]:
    """The network's inputs for each image, which fills the whole batch if the batch is fixed."""
    preprocess = Spec.from_metadata(metadata(model), str(source)).preprocess
    batch = max(input_shapes(model, source)["images"][0], 1)
    shown = tracked(images, f"{source}: ranges of values", len(images), "images")
    return (preprocess([read_image(image)] * batch).inputs() for image in shown)


def _overflows(
    model: onnx.ModelProto, rule: PrecisionRule, precision: str, feeds: Iterator[Feed]
) -> dict[str, float]:
    """The tensors of the nodes to convert whose largest magnitude exceeds the type, with that magnitude."""
    magnitudes = largest_magnitudes(model, rule.converted_nodes(model.graph, opset_of(model)), feeds)
    return {name: value for name, value in magnitudes.items() if value > largest_finite(precision)}


def _check_overflows(overflows: dict[str, float], overflow: str, precision: str, source: Path) -> None:
    if overflows and overflow == "error":
        raise SameboxError(
            f"{source}: {_overflow_text(overflows)}, more than {largest_finite(precision):.5g}, the largest "
            f"{precision}; set precision.overflow=fp32 to keep them in fp32, or use bf16"
        )


def _overflow_text(overflows: dict[str, float]) -> str:
    return ", ".join(f"{name} reaches {value:.5g}" for name, value in overflows.items())


def _write(
    model: onnx.ModelProto,
    properties: dict[str, str],
    target: Path,
    precision: str,
    rule: PrecisionRule,
    converted: Sequence[str],
) -> AchievedPrecision:
    """Write the model with its metadata and return the precision read back from it.

    Raises SameboxError, and writes nothing, unless the products `converted` are in `precision`.
    """
    achieved = achieved_precision(model, rule)
    check_achieved_precision(achieved, precision, converted, str(target))
    record = json.dumps({"asked": precision, "products": achieved.counts()}, sort_keys=True)
    model.producer_name, model.producer_version = "samebox", ""
    helper.set_model_props(model, properties | {PRECISION_KEY: record})
    onnx.checker.check_model(model, full_check=True)
    with atomic_write(target) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
    return achieved
