"""Conversion of an fp32 ONNX file to fp16, bf16 or int8, and the precision read back from the result."""
