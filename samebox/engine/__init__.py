"""TensorRT engines from ONNX files, by TensorRT-RTX and by TensorRT, which share one API.

TensorRT-RTX builds ahead of time for given compute capabilities and needs no GPU. TensorRT builds on the GPU
on which the engine will run. An engine is a pair of files: the plan, and beside it a JSON file that describes
the plan and contains its hash.
"""
