"""Largest magnitudes of a graph's tensors on real images, to find those that a 16-bit type cannot hold."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from samebox.graph.reading import opset_of
from samebox.precision.rule import constant_tensors, same_type_tensors

Feed = Mapping[str, NDArray[Any]]


def largest_magnitudes(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], feeds: Iterable[Feed]
) -> dict[str, float]:
    """The largest magnitude, over all `feeds`, of each tensor of values that `nodes` read or write.

    Weights are included. A NaN counts as infinite. ONNX Runtime runs the unchanged model in fp32.
    """
    opset, graph = opset_of(model), model.graph
    names = list(
        dict.fromkeys(name for node in nodes for side in same_type_tensors(node, opset) for name in side)
    )
    weights = {tensor.name: tensor for tensor in graph.initializer}
    magnitudes = {name: _magnitude(numpy_helper.to_array(weights[name])) for name in names if name in weights}
    constants = constant_tensors(graph)
    computed = [name for name in names if name not in constants]
    session = onnxruntime.InferenceSession(
        _with_magnitudes(model, computed).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for feed in feeds:
        values = session.run([_magnitude_output(name) for name in computed], dict(feed))
        for name, value in zip(computed, values, strict=True):
            magnitudes[name] = max(magnitudes.get(name, 0.0), _magnitude(value))
    return magnitudes


def _magnitude(values: NDArray[Any]) -> float:
    """The largest magnitude: infinite if a value is NaN, 0 for an empty array."""
    largest = float(np.abs(values).max(initial=0.0))
    return largest if np.isfinite(largest) else float("inf")


def _with_magnitudes(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy whose only outputs are the largest magnitude of each tensor in `names`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    for name in names:
        output = _magnitude_output(name)
        copy.graph.node.append(helper.make_node("Abs", [name], [f"{name}_magnitude"]))
        copy.graph.node.append(helper.make_node("ReduceMax", [f"{name}_magnitude"], [output], keepdims=0))
        copy.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, []))
    return copy


def _magnitude_output(name: str) -> str:
    return f"{name}_largest"
