"""Products in int8 by ONNX Runtime's quantisation, their inputs' ranges taken from real images."""

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
from samebox.precision.rule import stored_names

METHODS = {"entropy": EntropyCalibrater, "percentile": PercentileCalibrater, "minmax": MinMaxCalibrater}
# Of a histogram; the time that the entropy takes grows with the square
BINS = 512


@dataclass(frozen=True)
class Calibration:
    """How a tensor's range follows from the values it takes.

    `method` is "entropy" (the range that keeps most of the distribution's information), "percentile" (the
    range that holds `percentile` percent of the values) or "minmax" (all of them).
    """

    method: str = "percentile"
    percentile: float = 99.99

    def __post_init__(self) -> None:
        """Raises SameboxError for an unknown method and for a percentile that is none."""
        if self.method not in METHODS:
            raise SameboxError(f"precision.method: {self.method!r} is none of {', '.join(METHODS)}")
        if not 50 < self.percentile <= 100:
            raise SameboxError(f"precision.percentile: {self.percentile} is not above 50 and at most 100")


class _One(CalibrationDataReader):
    """One image at a time: a histogram's calibrator keeps all that it is handed in memory."""

    def __init__(self, feed: Feed) -> None:
        self._feeds = [dict(feed)]

    def get_next(self) -> Feed | None:
        return self._feeds.pop() if self._feeds else None


def quantized(
    model: onnx.ModelProto, names: Sequence[str], feeds: Iterable[Feed], calibration: Calibration
) -> onnx.ModelProto:
    """`model` with the products `names` between QuantizeLinear and DequantizeLinear.

    Weights are int8 with a scale for each channel that they lead to; what multiplies them is int8 with one
    scale, symmetric as TensorRT takes it. Biases and results stay fp32.
    """
    operators = sorted({node.op_type for node in model.graph.node if node.name in names})
    inferred = onnx.shape_inference.infer_shapes(model)
    _store_weights(inferred, names)
    taken = {node.input[0] for node in inferred.graph.node if node.name in names}
    quantizer = QDQQuantizer(
        inferred,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=_ranges(inferred, taken, feeds, calibration),
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
    ordered.graph.sort()  # new nodes were added at the end
    RemoveUnusedNodesPass()(ordered)
    return ir.to_proto(ordered)


def _store_weights(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Store the weights of the products `names` that `model` computes from others.

    An exporter folds small constants alone, and not every file could be simplified; ONNX Runtime's
    quantisation would look for the range of such a weight as for an activation's.
    """
    graph = model.graph
    products = [node for node in graph.node if node.name in names]
    computed = stored_names(graph) - {tensor.name for tensor in graph.initializer}
    weights = sorted(computed.intersection(name for node in products for name in node.input[:2]))
    if not weights:
        return
    part = onnx.utils.Extractor(model).extract_model([], weights).SerializeToString()
    values = onnxruntime.InferenceSession(part, providers=["CPUExecutionProvider"]).run(weights, {})
    for name, value in zip(weights, values, strict=True):
        graph.initializer.append(numpy_helper.from_array(value, f"{name}_stored"))
    for node in products:
        node.input[:] = [f"{name}_stored" if name in weights else name for name in node.input]


def _ranges(
    model: onnx.ModelProto, tensors: Collection[str], feeds: Iterable[Feed], calibration: Calibration
) -> TensorsData:
    """The range of each of `tensors`."""
    options: dict[str, dict[str, Any]] = {
        "entropy": {"num_bins": BINS},
        "percentile": {"num_bins": BINS, "percentile": calibration.percentile, "symmetric": True},
        "minmax": {},
    }
    # the calibrators print what they are at
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        calibrator = METHODS[calibration.method](
            path,
            augmented_model_path=str(Path(folder) / "measuring.onnx"),
            **options[calibration.method],
        )
        of_all = calibrator.select_tensors_to_calibrate

        def of_these(model: onnx.ModelProto) -> tuple[set[str], dict[str, onnx.ValueInfoProto]]:
            names, infos = of_all(model)
            return names.intersection(tensors), infos

        calibrator.select_tensors_to_calibrate = of_these
        calibrator.augment_graph()
        calibrator.create_inference_session()
        for feed in feeds:
            calibrator.collect_data(_One(feed))
        return calibrator.compute_data()
