"""Quantisation of products to int8 by ONNX Runtime, with ranges calibrated on real images."""

import contextlib
import io
import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import onnxruntime
from onnx import numpy_helper
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxruntime.quantization import CalibrationDataReader, QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import (
    EntropyCalibrater,
    MinMaxCalibrater,
    PercentileCalibrater,
    TensorsData,
)

from samebox.core.errors import SameboxError
from samebox.precision.overflow import Feed
from samebox.precision.rule import constant_tensors

METHODS = {"entropy": EntropyCalibrater, "percentile": PercentileCalibrater, "minmax": MinMaxCalibrater}
# Bins of a calibration histogram. The time of the entropy method grows with the square of this number.
BINS = 512


@dataclass(frozen=True)
class Calibration:
    """How the range of a tensor is derived from its values on the calibration images.

    `method` is "entropy" (the range that loses the least information about the distribution), "percentile"
    (the range that contains `percentile` percent of the values) or "minmax" (the range of all values).
    Raises SameboxError for an unknown method, or for a percentile outside (50, 100].
    """

    method: str = "percentile"
    percentile: float = 99.99

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise SameboxError(f"precision.method: {self.method!r} is none of {', '.join(METHODS)}")
        if not 50 < self.percentile <= 100:
            raise SameboxError(
                f"precision.percentile: {self.percentile}: give a number above 50, at most 100"
            )


class _SingleFeedReader(CalibrationDataReader):
    """A reader of one feed, because a calibrator holds all feeds of a reader in memory."""

    def __init__(self, feed: Feed) -> None:
        self._feeds = [dict(feed)]

    def get_next(self) -> Feed | None:
        return self._feeds.pop() if self._feeds else None


def quantized(
    model: onnx.ModelProto, names: Sequence[str], feeds: Iterable[Feed], calibration: Calibration
) -> onnx.ModelProto:
    """A copy of `model` in QDQ format: the products named in `names` read DequantizeLinear nodes.

    Weights are int8 with one scale per output channel. The other factor goes through QuantizeLinear and
    DequantizeLinear with one scale, symmetric, as TensorRT requires. Biases and outputs stay fp32.
    """
    operators = sorted({node.op_type for node in model.graph.node if node.name in names})
    inferred = onnx.shape_inference.infer_shapes(model)
    _store_weights(inferred, names)
    quantized_inputs = {node.input[0] for node in inferred.graph.node if node.name in names}
    quantizer = QDQQuantizer(
        inferred,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=_ranges(inferred, quantized_inputs, feeds, calibration),
        nodes_to_quantize=list(names),
        nodes_to_exclude=[],
        op_types_to_quantize=operators,
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": operators,
        },
    )
    quantizer.quantize_model()
    ordered = ir.from_proto(quantizer.model.model)
    ordered.graph.sort()  # the quantizer appends its nodes at the end
    RemoveUnusedNodesPass()(ordered)
    return ir.to_proto(ordered)


def _store_weights(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Store as initializers the weights of the products `names` that `model` computes from constants.

    The exporter folds only small constants, and not every file could be simplified. ONNX Runtime's
    quantizer would look for a calibrated range of such a weight, as for an activation.
    """
    graph = model.graph
    products = [node for node in graph.node if node.name in names]
    computed = constant_tensors(graph) - {tensor.name for tensor in graph.initializer}
    weights = sorted(computed.intersection(name for node in products for name in node.input[:2]))
    if not weights:
        return
    subgraph = onnx.utils.Extractor(model).extract_model([], weights).SerializeToString()
    values = onnxruntime.InferenceSession(subgraph, providers=["CPUExecutionProvider"]).run(weights, {})
    for name, value in zip(weights, values, strict=True):
        graph.initializer.append(numpy_helper.from_array(value, f"{name}_stored"))
    for node in products:
        node.input[:] = [f"{name}_stored" if name in weights else name for name in node.input]


def _ranges(
    model: onnx.ModelProto, tensors: Collection[str], feeds: Iterable[Feed], calibration: Calibration
) -> TensorsData:
    """The range of each of `tensors` over `feeds`."""
    options: dict[str, dict[str, Any]] = {
        "entropy": {"num_bins": BINS},
        "percentile": {"num_bins": BINS, "percentile": calibration.percentile, "symmetric": True},
        "minmax": {},
    }
    # the calibrators print their progress
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        calibrator = METHODS[calibration.method](
            path,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            **options[calibration.method],
        )
        select_all = calibrator.select_tensors_to_calibrate

        def select(model: onnx.ModelProto) -> tuple[set[str], dict[str, onnx.ValueInfoProto]]:
            names, infos = select_all(model)
            return names.intersection(tensors), infos

        calibrator.select_tensors_to_calibrate = select
        calibrator.augment_graph()
        calibrator.create_inference_session()
        for feed in feeds:
            calibrator.collect_data(_SingleFeedReader(feed))
        return calibrator.compute_data()
