"""TensorRT engines from ONNX, for TensorRT-RTX and for TensorRT, which share one API.

TensorRT-RTX builds ahead of time for the compute capabilities it is told of and needs no GPU; TensorRT
builds on the GPU that the engine will run on. An engine is a pair of files: the plan, and beside it a JSON
that says what is in the plan and carries its hash.
"""
