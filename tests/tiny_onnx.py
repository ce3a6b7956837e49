"""A detector of a few nodes, with a loop, that has the inputs and outputs of samebox's ONNX files."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser

METADATA = '{"classes": ["é", "b", "c"],  "note": "kept byte for byte"}'

# A score for each of 3 classes in each cell of 8x8 pixels. The 8 best become boxes of 16x16 pixels that start
# at their cell. The loop multiplies each score by 0.9, twice. A simplifier can remove Identity, Mul by one
# and BatchNormalization.
TEXT = """
<ir_version: 10, opset_import: ["" : 18]>
tiny (float[batch,3,height,width] images, int64[batch,2] sizes)
  => (float[batch,8,4] boxes, float[batch,8] scores, int64[batch,8] labels)
<int64[2] flat = {0, -1}, int64[1] k = {8}, float one = {1.0}, int64 cell_size = {8}, int64 box_size = {16},
 int64 last = {-1}, int64 row = {0}, int64 column = {1}, int64 trips = {2},
 bool on = {1}, float share = {0.9}, int64 classes = {3}, float[3] ones = {1,1,1}, float[3] zeros = {0,0,0}>
{
  copied = Identity(images)
  scaled = Mul(copied, one)
  logits = Conv<kernel_shape = [8,8], strides = [8,8]>(scaled, weight)
  normed = BatchNormalization(logits, ones, bias, zeros, ones)
  chances = Sigmoid(normed)
  flatted = Reshape(chances, flat)
  best, index = TopK(flatted, k)
  scores = Loop(trips, on, best) <body = body
    (int64 i, bool go, float[batch,8] s) => (bool go_on, float[batch,8] less)
    { go_on = Identity(go)  less = Mul(s, share) }>
  shape = Shape(chances)
  across = Gather(shape, last)
  all = Size(flatted)
  images_seen = Gather(shape, row)
  each = Div(all, images_seen)
  cells = Div(each, classes)
  labels = Div(index, cells)
  cell = Mod(index, cells)
  y = Div(cell, across)
  x = Mod(cell, across)
  top = Mul(y, cell_size)
  left = Mul(x, cell_size)
  bottom = Add(top, box_size)
  right = Add(left, box_size)
  height_1 = Gather<axis = 1>(sizes, row)
  width_1 = Gather<axis = 1>(sizes, column)
  one_axis = Constant<value_ints = [1]>()
  height_2 = Unsqueeze(height_1, one_axis)
  width_2 = Unsqueeze(width_1, one_axis)
  lower = Min(bottom, height_2)
  outer = Min(right, width_2)
  last_axis = Constant<value_ints = [-1]>()
  left_1 = Unsqueeze(left, last_axis)
  top_1 = Unsqueeze(top, last_axis)
  right_1 = Unsqueeze(outer, last_axis)
  bottom_1 = Unsqueeze(lower, last_axis)
  corners = Concat<axis = -1>(left_1, top_1, right_1, bottom_1)
  boxes = Cast<to = 1>(corners)
}
"""


def tiny_model(bias: float = 0.0, **dimensions: int) -> onnx.ModelProto:
    """The detector. `bias` is added to every logit; `dimensions` (batch, height, width) are fixed."""
    model = parser.parse_model(TEXT)
    weight = np.random.default_rng(0).normal(0, 1e-3, (3, 3, 8, 8)).astype(np.float32)
    for name, value in (("weight", weight), ("bias", np.full(3, bias, np.float32))):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    for value in (*model.graph.input, *model.graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in dimensions:
                dimension.dim_value = dimensions[dimension.dim_param]
    model.metadata_props.add(key="samebox", value=METADATA)
    return model


def tiny_file(path: Path, **settings: float) -> Path:
    """Write the detector to `path`."""
    onnx.save(tiny_model(**settings), path)
    return path
