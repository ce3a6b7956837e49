"""Rewrites of an ONNX graph, one a file. Each returns whether it changed anything.

Together they bring what the exporter writes at opset 18 down to 11.
"""

from collections.abc import Callable
from functools import partial

import onnx_ir as ir

from samebox.graph.rewrites import (
    comparisons,
    constant_axes,
    constant_tensors,
    default_attributes,
    grid_sample,
    integer_extremes,
    layer_norm,
    pad_axes,
    reshape_zero,
    resize_inputs,
    shape_range,
    softmax_axis,
    split_outputs,
    split_sizes,
    trilu,
)

Rewrite = Callable[[ir.Model], bool]

# The opset that brought what a rewrite does without, and the rewrite, in the order in which they are done
TO_OLDER: tuple[tuple[int, Rewrite], ...] = (
    (17, layer_norm.rewrite),
    (18, partial(constant_axes.rewrite, operators=constant_axes.REDUCTIONS)),
    (18, pad_axes.rewrite),
    (18, split_outputs.rewrite),
    (18, default_attributes.rewrite),
    (16, grid_sample.rewrite),
    (14, trilu.rewrite),
    (14, reshape_zero.rewrite),
    (15, shape_range.rewrite),
    (13, partial(constant_axes.rewrite, operators=constant_axes.OTHERS)),
    (13, split_sizes.rewrite),
    (13, softmax_axis.rewrite),
    (13, resize_inputs.rewrite),
    (12, comparisons.rewrite),
    (12, integer_extremes.rewrite),
    (12, constant_tensors.rewrite),
)
