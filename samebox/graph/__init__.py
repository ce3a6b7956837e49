"""The network as an ONNX graph: export, lowering, opset, rewrites, simplification."""
