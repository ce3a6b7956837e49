"""16-bit ONNX files by ONNX Runtime on a CPU without kernels of their type."""

from samebox.graph.reading import onnx_model
from samebox.precision.rounding import rounded
from samebox.runners.onnxruntime import OnnxRuntimeRunner


class RoundedRunner(OnnxRuntimeRunner):
    """Runs one fp16 or bf16 ONNX file in fp32, rounded as `samebox.precision.rounding` says.

    Raises SameboxError where the file is absent, does not load or has no 16-bit part.
    """

    def _model(self) -> bytes:
        return rounded(onnx_model(self.path), self.name).SerializeToString()
