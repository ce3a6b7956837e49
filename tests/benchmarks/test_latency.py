import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from benchmarks.latency import BIAS, bias_for, cells, set_bias
from benchmarks.networks import filling


def test_only_the_bias_of_the_class_logits_is_set(tmp_path):
    values = {BIAS: np.arange(3, dtype=np.float32), "other": np.ones(3, np.float32)}
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xy")
    initializers = [numpy_helper.from_array(value, name) for name, value in values.items()]
    nodes = [helper.make_node("Sum", ["x", BIAS, "other"], ["y"])]
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [x], [y], initializers)), path)
    set_bias(path, -2.5)
    tensors = {t.name: numpy_helper.to_array(t).tolist() for t in onnx.load(path).graph.initializer}
    assert tensors == {BIAS: [-2.5] * 3, "other": [1.0] * 3}


def test_the_image_fills_the_canvas():
    batch = filling(np.full((10, 20, 3), 7, np.uint8), (32, 64))
    assert batch.images.shape == (1, 3, 32, 64)
    assert (batch.images == 7).all()
    assert batch.sizes.tolist() == [[32, 64]]


def test_the_ratio_to_pytorch_follows_each_lowering():
    times = {"torch": [0.1], "portable": [0.08], "onnx": [0.05]}
    assert cells(times) == [
        "100 (100–100)",
        "80 (80–80)",
        "0.80 (0.80–0.80)",
        "50 (50–50)",
        "0.50 (0.50–0.50)",
    ]


@pytest.mark.parametrize("candidates", [1, 300, 9_999])
def test_the_bias_leaves_the_requested_number_of_candidates(candidates):
    logits = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    scores = (logits + bias_for(candidates, logits, 0.05)).sigmoid()
    assert int((scores > 0.05).sum()) == candidates
