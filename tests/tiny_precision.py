"""A detector of two convolutions and a head, a precision rule, and calibration images."""

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import numpy_helper, parser

from samebox.precision.rule import PrecisionRule
from samebox.record.preprocess import Preprocess, Resize
from samebox.record.spec import METADATA_KEY, Spec

RULE = PrecisionRule(["Conv", "Gemm", "MatMul"], ["Add", "Concat", "MaxPool", "Relu", "Reshape", "Resize"])
SPEC = Spec("tiny", ("a",), Preprocess(Resize((32, 32))), {}, "0" * 64, opset=18, lowering="portable")

# Two convolutions with other nodes between them, and a head whose logits go through Add and Sigmoid. The loop
# contains a product, which stays in fp32.
TEXT = """
<ir_version: 10, opset_import: ["" : 18]>
tiny (float[batch,3,height,width] images, int64[batch,2] sizes)
  => (float[batch,2,h,w] scores, float[2,2] turned)
<float half = {0.5}, float[4] factors = {1,1,0.5,0.5}, int64 trips = {2}, bool on = {1}>
{
  centred = Mul(images, half)
  stem = Conv<kernel_shape = [3,3], pads = [1,1,1,1]>(centred, w_stem, b_stem)
  active = Relu(stem)
  smaller = Resize<mode = "nearest">(active, , factors)
  body = Conv<kernel_shape = [1,1]>(smaller, w_body)
  summed = Add(body, smaller)
  logits = Conv<kernel_shape = [1,1]>(summed, w_head, b_head)
  shifted = Add(logits, half)
  scores = Sigmoid(shifted)
  first = Constant<value = float[2,2] {1,2,3,4}>()
  turned = Loop(trips, on, first) <body = inside
    (int64 i, bool go, float[2,2] s) => (bool go_on, float[2,2] next)
    { go_on = Identity(go)  next = MatMul(s, w_loop) }>
}
"""


def tiny(scale: float = 1.0) -> onnx.ModelProto:
    """The detector. `scale` multiplies the weights of the convolution `body`."""
    model = parser.parse_model(TEXT)
    draw = np.random.default_rng(0).normal
    weights = {
        "w_stem": draw(0, 0.1, (4, 3, 3, 3)),
        "b_stem": draw(0, 0.1, 4),
        "w_body": draw(0, 0.1, (4, 4, 1, 1)) * scale,
        "w_head": draw(0, 0.01, (2, 4, 1, 1)),
        "b_head": draw(0, 0.1, 2),
        "w_loop": draw(0, 0.1, (2, 2)),
    }
    for name, value in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    for node in model.graph.node:
        node.name = f"node_{node.output[0]}"
    model.metadata_props.add(key=METADATA_KEY, value=SPEC.to_json())
    return model


def tiny_source(path: Path, **settings: float) -> Path:
    """Write the detector to `path`."""
    onnx.save(tiny(**settings), path)
    return path


def pictures(folder: Path, count: int = 3) -> list[Path]:
    """Write images of noise of several sizes and return their paths."""
    paths = []
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (24 + 8 * index, 32, 3), np.uint8)
        paths.append(folder / f"{index}.png")
        cv2.imwrite(str(paths[-1]), pixels)
    return paths


def record(model: onnx.ModelProto, key: str) -> dict:
    """The value of a JSON metadata entry."""
    return json.loads(next(entry.value for entry in model.metadata_props if entry.key == key))
