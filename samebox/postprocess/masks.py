"""Masks from probabilities over boxes or over the canvas, as the source frameworks paste them."""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

STRIDE = 4  # of maps over the canvas, in canvas pixels

_Float = NDArray[np.float32]
_Steps = tuple[NDArray[np.intp], _Float]


def paste_sampled(probabilities: _Float, boxes: _Float, height: int, width: int) -> NDArray[np.bool_]:
    """Probabilities [N,M,M] in 0..1 over boxes [N,4], x1 y1 x2 y2 in pixels → masks [N,height,width].

    A pixel belongs to a mask if the map, sampled bilinearly at the pixel's centre and 0 beyond its edge, is
    at least 0.5. MMDetection pastes in this way on the CPU. As there, a box without width or height gets the
    middle of its map, on the pixels next to the box.

    Each mask is stored column by column, the order of COCO's run-length codes.
    """
    count, side = probabilities.shape[:2]
    maps = _zero_padded(probabilities)
    rows = _samples(boxes[:, 1], boxes[:, 3], height, side)
    columns = _samples(boxes[:, 0], boxes[:, 2], width, side)
    pasted = np.zeros((count, width, height), np.bool_)
    for mask, values, (ys, by_row), (xs, by_column) in zip(pasted, maps, rows, columns, strict=True):
        # bilinear sampling is separable: first the rows, [side+2,h], then the columns, [w,h]
        sampled = _interpolated(_interpolated(values, *by_row).T.copy(), *by_column)
        np.greater_equal(sampled, np.float32(0.5), out=mask[xs, ys])
    return pasted.transpose(0, 2, 1)


def paste_resized(probabilities: _Float, boxes: _Float, height: int, width: int) -> NDArray[np.bool_]:
    """The arrays of `paste_sampled`, but each map is resized to the whole pixels of its box.

    maskrcnn-benchmark pastes in this way: map and box grow by a ring of zeros, one cell wide. The box's
    coordinates are truncated to integers; its x2 and y2 are the last pixels that belong to it. A pixel
    belongs to a mask if its value is above 0.5.
    """
    count, side = probabilities.shape[:2]
    maps = _zero_padded(probabilities)
    centres, halves = (boxes[:, :2] + boxes[:, 2:]) * 0.5, (boxes[:, 2:] - boxes[:, :2]) * 0.5
    halves = halves * np.float32((side + 2) / side)
    windows = np.concatenate([centres - halves, centres + halves], 1).astype(np.int64)  # towards zero
    masks = np.zeros((count, height, width), np.bool_)
    for mask, values, (x1, y1, x2, y2) in zip(masks, maps, windows.tolist(), strict=True):
        size = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
        inside = cv2.resize(values, size, interpolation=cv2.INTER_LINEAR) > 0.5
        top, left, bottom, right = max(y1, 0), max(x1, 0), min(y2 + 1, height), min(x2 + 1, width)
        if bottom > top and right > left:
            mask[top:bottom, left:right] = inside[top - y1 : bottom - y1, left - x1 : right - x1]
    return masks


# How masks over boxes are pasted, by name: MMDetection and detectron2, maskrcnn-benchmark
PASTES = {"sampled": paste_sampled, "resized": paste_resized}


def masks_from_canvas(
    probabilities: _Float, size: tuple[int, int], height: int, width: int
) -> NDArray[np.bool_]:
    """Probabilities [N,h,w] in 0..1 over a canvas → masks [N,height,width] of the image on it.

    As in SOLO, each map is resized by `resize_from_canvas`; a pixel belongs to a mask if its value is above
    0.5. `size` is the image's (height, width) on the canvas.
    """
    masks = np.zeros((len(probabilities), height, width), np.bool_)
    for mask, values in zip(masks, probabilities, strict=True):
        np.greater(resize_from_canvas(values, size, height, width), 0.5, out=mask)
    return masks


def resize_from_canvas(
    values: _Float, size: tuple[int, int], height: int, width: int
) -> NDArray[np.floating]:
    """A map [h,w] over a canvas → [height,width] over the original image.

    The map is enlarged STRIDE times, cropped to the image's (height, width) `size` on the canvas, and resized
    to the original size, both bilinearly.
    """
    rows, columns = values.shape
    enlarged = cv2.resize(values, (STRIDE * columns, STRIDE * rows), interpolation=cv2.INTER_LINEAR)
    cropped = np.ascontiguousarray(enlarged[: size[0], : size[1]])
    return np.asarray(cv2.resize(cropped, (width, height), interpolation=cv2.INTER_LINEAR), values.dtype)


def boxes_around(masks: NDArray[np.bool_]) -> _Float:
    """The smallest boxes [N,4], x1 y1 x2 y2 in pixels, around masks [N,H,W]; zeros for an empty mask."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def mask_iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The IoU of each mask in `a` [N,H,W] with its counterpart in `b` [N,H,W]: [N], 1 if both are empty."""
    union = np.array([np.count_nonzero(one | other) for one, other in zip(a, b, strict=True)], np.float64)
    common = np.array([np.count_nonzero(one & other) for one, other in zip(a, b, strict=True)], np.float64)
    return np.divide(common, union, out=np.ones_like(union), where=union > 0)


def _zero_padded(maps: _Float) -> _Float:
    """Maps [N,M,M] with a ring of zeros: [N,M+2,M+2]."""
    count, side = maps.shape[:2]
    padded = np.zeros((count, side + 2, side + 2), np.float32)
    padded[:, 1:-1, 1:-1] = maps
    return padded


def _samples(low: _Float, high: _Float, pixels: int, side: int) -> Iterator[tuple[slice, _Steps]]:
    """For each box, on one axis: its window of pixels, and where each of these pixels lies in the padded map.

    A place is the index of the preceding cell and the fraction 0..1 of the way to the next cell. The formulas
    are those of MMDetection and of `grid_sample`, step by step, so that float32 rounds in the same way.
    """
    centres = np.arange(pixels, dtype=np.float32) + np.float32(0.5)
    with np.errstate(all="ignore"):  # a box without extent divides by zero
        places = (centres - low[:, None]) / (high - low)[:, None] * 2 - 1  # -1..1 over the box
        places[np.isinf(places)] = 0
        places = ((places + 1) * side - 1) / 2  # the centre of a cell is its index
    places = np.nan_to_num(places, nan=-1).clip(-1, side)
    preceding = np.floor(places).clip(max=side - 1)
    index, fraction = preceding.astype(np.intp) + 1, (places - preceding)[:, :, None]
    first = (np.floor(low) - 1).clip(0, pixels).astype(int)
    last = (np.ceil(high) + 1).clip(0, pixels).astype(int)
    for box, window in enumerate(map(slice, first, last)):
        yield window, (index[box, window], fraction[box, window])


def _interpolated(values: _Float, index: NDArray[np.intp], fraction: _Float) -> _Float:
    """Rows [K,L] at `index` [P], moved by `fraction` [P,1] in 0..1 towards the next row → [P,L]."""
    sampled = (values[1:] - values[:-1]).take(index, axis=0)
    sampled *= fraction
    sampled += values.take(index, axis=0)
    return sampled
