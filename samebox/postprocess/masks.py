"""Masks after the network: from probabilities over boxes to pixels of the image."""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

_Float = NDArray[np.float32]
_Steps = tuple[NDArray[np.intp], _Float]


def paste(probabilities: _Float, boxes: _Float, height: int, width: int) -> NDArray[np.bool_]:
    """Probabilities [N,M,M] in 0..1 over boxes [N,4], x1 y1 x2 y2 in pixels → masks [N,height,width].

    A pixel belongs to a mask where the map, sampled bilinearly at the pixel's centre and 0 beyond its edge,
    is at least 0.5. So MMDetection pastes on the CPU, also what it makes of a box without width or height:
    the map's middle, on the pixels next to the box.

    The masks lie in memory column by column, the order in which COCO's run lengths count.
    """
    count, side = probabilities.shape[:2]
    maps = np.zeros((count, side + 2, side + 2), np.float32)  # a ring of the zeros beyond
    maps[:, 1:-1, 1:-1] = probabilities
    rows = _samples(boxes[:, 1], boxes[:, 3], height, side)
    columns = _samples(boxes[:, 0], boxes[:, 2], width, side)
    pasted = np.zeros((count, width, height), np.bool_)
    for mask, values, (ys, by_row), (xs, by_column) in zip(pasted, maps, rows, columns, strict=True):
        # bilinear sampling is separable: first the rows, [side+2,h], then the columns, [w,h]
        sampled = _interpolated(_interpolated(values, *by_row).T.copy(), *by_column)
        np.greater_equal(sampled, np.float32(0.5), out=mask[xs, ys])
    return pasted.transpose(0, 2, 1)


def resized(probabilities: _Float, boxes: _Float, height: int, width: int) -> NDArray[np.bool_]:
    """As `paste`, the way of maskrcnn-benchmark: each map is resized to the whole pixels that its box covers.

    Map and box grow by a ring of zeros, one cell wide; the box's coordinates are cut to integers, its x2 and
    y2 the last pixels that belong to it. A pixel belongs to a mask above 0.5.
    """
    count, side = probabilities.shape[:2]
    maps = np.zeros((count, side + 2, side + 2), np.float32)
    maps[:, 1:-1, 1:-1] = probabilities
    centres, halves = (boxes[:, :2] + boxes[:, 2:]) * 0.5, (boxes[:, 2:] - boxes[:, :2]) * 0.5
    halves = halves * np.float32((side + 2) / side)
    windows = np.concatenate([centres - halves, centres + halves], 1).astype(np.int64)  # towards zero
    masks = np.zeros((count, height, width), np.bool_)
    for mask, values, (x1, y1, x2, y2) in zip(masks, maps, windows.tolist(), strict=True):
        size = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
        own = cv2.resize(values, size, interpolation=cv2.INTER_LINEAR) > 0.5
        top, left, bottom, right = max(y1, 0), max(x1, 0), min(y2 + 1, height), min(x2 + 1, width)
        if bottom > top and right > left:
            mask[top:bottom, left:right] = own[top - y1 : bottom - y1, left - x1 : right - x1]
    return masks


def spread(probabilities: _Float, canvas: tuple[int, int], height: int, width: int) -> NDArray[np.bool_]:
    """Probabilities [N,h,w] in 0..1 over a canvas → masks [N,height,width] of the image on it.

    As SOLO does: enlarged to four times h and w, cropped to the image's own (height, width) on the `canvas`,
    resized to its original one, all bilinearly; a pixel belongs to a mask above 0.5.
    """
    rows, columns = probabilities.shape[1:]
    masks = np.zeros((len(probabilities), height, width), np.bool_)
    for mask, values in zip(masks, probabilities, strict=True):
        enlarged = cv2.resize(values, (4 * columns, 4 * rows), interpolation=cv2.INTER_LINEAR)
        own = np.ascontiguousarray(enlarged[: canvas[0], : canvas[1]])
        np.greater(cv2.resize(own, (width, height), interpolation=cv2.INTER_LINEAR), 0.5, out=mask)
    return masks


def bounds(masks: NDArray[np.bool_]) -> _Float:
    """The smallest boxes [N,4], x1 y1 x2 y2 in pixels, around masks [N,H,W]; zeros around an empty one."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def mask_iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Masks [N,H,W] and as many others → the IoU of each with its counterpart [N], 1 where both are empty."""
    joined = np.array([np.count_nonzero(one | other) for one, other in zip(a, b, strict=True)], np.float64)
    common = np.array([np.count_nonzero(one & other) for one, other in zip(a, b, strict=True)], np.float64)
    return np.divide(common, joined, out=np.ones_like(joined), where=joined > 0)


def _samples(low: _Float, high: _Float, pixels: int, side: int) -> Iterator[tuple[slice, _Steps]]:
    """For each box on one axis: its window of pixels, and of each pixel its place in the map in its ring.

    A place is the index of the cell before and the way from there to the next cell, 0..1. The formulas are
    those of MMDetection and of `grid_sample` step by step, so that float32 rounds alike.
    """
    centres = np.arange(pixels, dtype=np.float32) + np.float32(0.5)
    with np.errstate(all="ignore"):  # a box without extent divides by zero
        at = (centres - low[:, None]) / (high - low)[:, None] * 2 - 1  # -1..1 over the box
        at[np.isinf(at)] = 0
        at = ((at + 1) * side - 1) / 2  # the centre of a cell is its index
    at = np.nan_to_num(at, nan=-1).clip(-1, side)
    before = np.floor(at).clip(max=side - 1)
    index, way = before.astype(np.intp) + 1, (at - before)[:, :, None]
    first = (np.floor(low) - 1).clip(0, pixels).astype(int)
    last = (np.ceil(high) + 1).clip(0, pixels).astype(int)
    for box, window in enumerate(map(slice, first, last)):
        yield window, (index[box, window], way[box, window])


def _interpolated(values: _Float, index: NDArray[np.intp], way: _Float) -> _Float:
    """Rows [K,L] at `index` [P], moved by `way` [P,1] in 0..1 towards the next → [P,L]."""
    sampled = (values[1:] - values[:-1]).take(index, axis=0)
    sampled *= way
    sampled += values.take(index, axis=0)
    return sampled


# How masks over boxes come onto the image: MMDetection's and detectron2's way, maskrcnn-benchmark's
PASTES = {"sampled": paste, "resized": resized}
