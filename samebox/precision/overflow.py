"""What the values of a graph come to on real images, before any of them is put in a smaller type."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from samebox.graph.reading import opset_of
from samebox.precision.rule import stored_names, typed

Feed = Mapping[str, NDArray[Any]]


def largest_values(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], feeds: Iterable[Feed]
) -> dict[str, float]:
    """The largest magnitude of each tensor of values that `nodes` take or give, over all `feeds`.

    Weights are among them. A value that is no number counts as infinite. The model runs in ONNX Runtime in
    fp32, as it is.
    """
    opset, graph = opset_of(model), model.graph
    names = list(dict.fromkeys(name for node in nodes for side in typed(node, opset) for name in side))
    weights = {tensor.name: tensor for tensor in graph.initializer}
    found = {name: _magnitude(numpy_helper.to_array(weights[name])) for name in names if name in weights}
    stored = stored_names(graph)
    asked = [name for name in names if name not in stored]
    session = onnxruntime.InferenceSession(
        _measuring(model, asked).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for feed in feeds:
        values = session.run([_measure(name) for name in asked], dict(feed))
        for name, value in zip(asked, values, strict=True):
            found[name] = max(found.get(name, 0.0), _magnitude(value))
    return found


def _magnitude(values: NDArray[Any]) -> float:
    """The largest magnitude, infinite where a value is no number, 0 of none."""
    largest = float(np.abs(values).max(initial=0.0))
    return largest if np.isfinite(largest) else float("inf")


def _measuring(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy that gives the largest magnitude of each of `names` besides, and nothing else."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    for name in names:
        copy.graph.node.append(helper.make_node("Abs", [name], [f"{name}_magnitude"]))
        copy.graph.node.append(
            helper.make_node("ReduceMax", [f"{name}_magnitude"], [_measure(name)], keepdims=0)
        )
        copy.graph.output.append(helper.make_tensor_value_info(_measure(name), TensorProto.FLOAT, []))
    return copy


def _measure(name: str) -> str:
    return f"{name}_largest"
