"""Rewrites of an ONNX graph, one a file. Each returns whether it changed anything.

Those of `TO_OPSET_16` bring what the exporter writes at opset 18 into the form that 13 to 17 know.
"""

from collections.abc import Callable

import onnx_ir as ir

from samebox.rewrites import layer_norm, pad_axes, reduce_axes, resize_defaults, split_outputs

TO_OPSET_16: tuple[Callable[[ir.Model], bool], ...] = (
    layer_norm.rewrite,
    reduce_axes.rewrite,
    pad_axes.rewrite,
    resize_defaults.rewrite,
    split_outputs.rewrite,
)
