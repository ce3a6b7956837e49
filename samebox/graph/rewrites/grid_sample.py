"""Replaces bilinear GridSample, which opset 16 introduced, by gathering the four cells around each point.

GridSample[mode="bilinear", padding_mode="zeros"](x, grid)  →  Σ weight * GatherElements(x, cell)
"""

from functools import partial
from itertools import product

import numpy as np
import onnx_ir as ir

from samebox.graph.rewrites.node_replacement import Tape, replace_node


def rewrite(model: ir.Model) -> bool:
    """Replace each bilinear GridSample with zero padding. Returns whether the graph changed."""
    changed = False
    for node in list(model.graph.all_nodes()):
        if node.op_type == "GridSample" and _is_bilinear_with_zeros(node):
            replace_node(node, partial(_gathered, node=node))
            changed = True
    return changed


def _is_bilinear_with_zeros(node: ir.Node) -> bool:
    mode = node.attributes.get_string("mode", "bilinear")
    return mode in ("bilinear", "linear") and node.attributes.get_string("padding_mode", "zeros") == "zeros"


def _gathered(tape: Tape, node: ir.Node) -> ir.Value:
    """x [N,C,H,W], grid [N,h,w,2] of x and y in [-1, 1] → [N,C,h,w]."""
    x, grid = node.inputs
    shape = tape.op("Shape", [x])
    aligned = bool(node.attributes.get_int("align_corners", 0))
    columns, rows = (_neighbours(tape, grid, shape, axis, aligned) for axis in (0, 1))
    flat = tape.op("Reshape", [x, tape.constant([0, 0, -1])])
    width = tape.op("Gather", [shape, tape.constant([3])])
    parts = []
    for (row, row_weight), (column, column_weight) in product(rows, columns):
        cell = tape.op("Add", [tape.op("Mul", [row, width]), column])  # [N,1,h*w]
        channels = tape.op("Slice", [shape, tape.constant([0]), tape.constant([2])])
        per_channel = tape.op("Concat", [channels, tape.constant([1])], {"axis": 0})
        index = tape.op("Expand", [cell, per_channel])
        weight = tape.op("Mul", [row_weight, column_weight])
        parts.append(tape.op("Mul", [tape.op("GatherElements", [flat, index], {"axis": 2}), weight]))
    total = tape.op("Sum", parts)
    size = tape.op("Slice", [tape.op("Shape", [grid]), tape.constant([1]), tape.constant([3])])
    channels = tape.op("Slice", [shape, tape.constant([0]), tape.constant([2])])
    return tape.op("Reshape", [total, tape.op("Concat", [channels, size], {"axis": 0})])


def _neighbours(
    tape: Tape, grid: ir.Value | None, shape: ir.Value, axis: int, aligned: bool
) -> list[tuple[ir.Value, ir.Value]]:
    """The two cells around each point along an axis (0: x), int64 [N,1,h*w], each with its weight."""
    length = tape.op("Gather", [shape, tape.constant([3 - axis])])
    side = tape.op("Cast", [length], {"to": ir.DataType.FLOAT})
    one, half = tape.constant([1], np.float32), tape.constant([0.5], np.float32)
    point = tape.op("Gather", [grid, tape.constant(axis)], {"axis": 3})
    point = tape.op("Reshape", [point, tape.constant([0, 1, -1])])
    relative = tape.op("Mul", [tape.op("Add", [point, one]), half])  # 0 to 1
    if aligned:
        point = tape.op("Mul", [relative, tape.op("Sub", [side, one])])
    else:
        point = tape.op("Sub", [tape.op("Mul", [relative, side]), half])
    low = tape.op("Floor", [point])
    fraction = tape.op("Sub", [point, low])
    cells = [(low, tape.op("Sub", [one, fraction])), (tape.op("Add", [low, one]), fraction)]
    return [_clamped(tape, cell, weight, side) for cell, weight in cells]


def _clamped(tape: Tape, cell: ir.Value, weight: ir.Value, side: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The cell clamped to the map, and its weight, which becomes 0 if the cell was outside."""
    last, zero = tape.op("Sub", [side, tape.constant([1], np.float32)]), tape.constant([0], np.float32)
    nearest = tape.op("Min", [tape.op("Max", [cell, zero]), last])
    weight = tape.op("Where", [tape.op("Equal", [nearest, cell]), weight, zero])
    return tape.op("Cast", [nearest], {"to": ir.DataType.INT64}), weight
