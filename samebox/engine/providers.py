"""The execution providers of ONNX Runtime that samebox uses."""

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"

# Device → its providers. ONNX Runtime offers each of them the nodes that the ones before it did not take.
PROVIDERS = {"cpu": (CPU,), "cuda": (CUDA, CPU), "tensorrt": (TENSORRT, CUDA, CPU)}
