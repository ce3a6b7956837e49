"""16-bit ONNX files in ONNX Runtime on a CPU that has no kernels for their type."""

from samebox.graph.reading import onnx_model
from samebox.precision.rounding import rounded
from samebox.runners.onnxruntime import OnnxRuntimeRunner


class RoundedRunner(OnnxRuntimeRunner):
    """Runs one fp16 or bf16 ONNX file in fp32 with the rounding of `samebox.precision.rounding`.

    Raises SameboxError if the file does not exist, cannot be loaded or has no 16-bit part.
    """

    def _model(self) -> bytes:
        return rounded(onnx_model(self.path), self.name).SerializeToString()
