"""The check of a network's outputs: their names, types and shapes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samebox.core.errors import SameboxError

# Output → kinds of its type (NumPy's letters), and its shape: B images, K rows, P keypoints, S classes
_OUTPUTS = {
    "boxes": ("f", "B K 4"),
    "scores": ("f", "B K"),
    "labels": ("iu", "B K"),
    "masks": ("f", "B K H W"),
    "keypoints": ("f", "B K P M M"),
    "semantics": ("f", "B S H W"),
}


def check_outputs(outputs: Mapping[str, NDArray[Any]], images: int, name: str) -> None:
    """Raise SameboxError unless `outputs` are those of `samebox.networks.nets.contract`.

    They are for at least so many `images`. `name` names the form in the error.
    """
    needed = {"scores", "labels", "boxes" if "keypoints" in outputs or "masks" not in outputs else "masks"}
    if not needed <= outputs.keys() <= _OUTPUTS.keys():
        raise SameboxError(f"{name}: its outputs are {', '.join(outputs)}; export it with samebox")
    rows = np.shape(outputs["scores"])[-1:]
    for output, value in outputs.items():
        kinds, axes = _OUTPUTS[output]
        if value.dtype.kind not in kinds or not _fits(value.shape, axes.split(), images, rows):
            raise SameboxError(
                f"{name}: its output {output} is {value.dtype} {list(value.shape)}, not "
                f"[{axes.replace(' ', ',')}] for {images} images; export it with samebox"
            )


def _fits(shape: tuple[int, ...], axes: list[str], images: int, rows: tuple[int, ...]) -> bool:
    known = {"4": 4, "K": rows[0] if rows else -1}
    return (
        len(shape) == len(axes)
        and shape[0] >= images
        and all(size == known.get(axis, size) for size, axis in zip(shape, axes, strict=True))
    )
