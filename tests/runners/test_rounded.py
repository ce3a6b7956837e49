import numpy as np
import pytest
from tiny_precision import RULE, pictures, tiny_source

from samebox.core.errors import SameboxError
from samebox.precision.convert import convert_precision
from samebox.runners.onnxruntime import OnnxRuntimeRunner
from samebox.runners.rounded import RoundedRunner

INPUTS = {"images": np.full((1, 3, 32, 32), 77.7, np.float32)}


def test_a_bf16_file_runs_on_the_cpu(tmp_path):
    source, target = tiny_source(tmp_path / "tiny.onnx"), tmp_path / "bf16.onnx"
    convert_precision(source, target, "bf16", RULE, pictures(tmp_path), opset=22)
    sizes = {"sizes": np.array([[32, 32]])}
    with pytest.raises(SameboxError, match="ONNX Runtime cannot load it"), OnnxRuntimeRunner(target):
        pass
    with RoundedRunner(target) as low, OnnxRuntimeRunner(source) as exact:
        assert low.metadata.keys() > exact.metadata.keys()
        rounded, expected = (runner(INPUTS | sizes)["scores"] for runner in (low, exact))
    assert 1e-6 < np.abs(rounded - expected).max() < 0.02


def test_an_fp32_file_is_refused(tmp_path):
    source = tiny_source(tmp_path / "tiny.onnx")
    with pytest.raises(SameboxError, match="no part of it is fp16 or bf16"), RoundedRunner(source):
        pass
