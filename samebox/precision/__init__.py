"""From a simplified fp32 ONNX file one whose products are fp16, bf16 or int8, and what was achieved of it."""
