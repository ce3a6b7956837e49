"""Rewrites of an ONNX graph, one per file. Each returns whether it changed the graph.

Together they convert a graph that the exporter writes at opset 18 down to opset 11.
"""

from collections.abc import Callable
from functools import partial

import onnx_ir as ir

from samebox.graph.rewrites import (
    constant_attributes,
    constant_axes,
    default_attributes,
    grid_sample,
    integer_min_max,
    layer_norm,
    or_equal,
    pad_axes,
    reshape_allowzero,
    resize_inputs,
    shape_start_end,
    softmax_axis,
    split_outputs,
    split_sizes,
    trilu,
)

Rewrite = Callable[[ir.Model], bool]

# (opset, rewrite) in the order of execution. A rewrite removes what its opset introduced, so it is applied
# if the target opset is older.
DOWNGRADES: tuple[tuple[int, Rewrite], ...] = (
    (17, layer_norm.rewrite),
    (18, partial(constant_axes.rewrite, operators=constant_axes.REDUCTIONS)),
    (18, pad_axes.rewrite),
    (18, split_outputs.rewrite),
    (18, default_attributes.rewrite),
    (16, grid_sample.rewrite),
    (14, trilu.rewrite),
    (14, reshape_allowzero.rewrite),
    (15, shape_start_end.rewrite),
    (13, partial(constant_axes.rewrite, operators=constant_axes.OTHERS)),
    (13, split_sizes.rewrite),
    (13, softmax_axis.rewrite),
    (13, resize_inputs.rewrite),
    (12, or_equal.rewrite),
    (12, integer_min_max.rewrite),
    (12, constant_attributes.rewrite),
)
