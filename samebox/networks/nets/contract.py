"""The interface of all network families: inputs, named outputs and normalisation."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import cast

import torch
from torch import Tensor, nn

from samebox.core.errors import SameboxError
from samebox.networks.blocks.valid import ValidCells

# Names of a network's outputs, in the order of the outputs of its graph. For shapes see Deployable.
BOXES = ("boxes", "scores", "labels")
MASKS = (*BOXES, "masks")  # a mask over each box
KEYPOINTS = (*BOXES, "keypoints")
PANOPTIC = (*MASKS, "semantics")  # masks, and the class of every cell of the canvas
SEGMENTS = ("scores", "labels", "masks")  # masks over the canvas, no boxes

_padding_rows = ContextVar("_padding_rows", default=False)


@contextmanager
def compute_padding_rows() -> Iterator[None]:
    """Within the block, eager networks run their heads on padding rows as well, as exported graphs do."""
    token = _padding_rows.set(True)
    try:
        yield
    finally:
        _padding_rows.reset(token)


def rows_to_compute(scores: Tensor) -> int:
    """Number of rows of scores [B,K], sorted in descending order, that later heads compute: at least 1.

    Eagerly, the largest number of detections of any image in the batch. In an exported graph, whose shapes
    are fixed, all K rows.
    """
    if torch.compiler.is_exporting() or _padding_rows.get():
        return scores.shape[1]
    return max(int(torch.count_nonzero(scores > 0, 1).max()), 1)


class Normalize(nn.Module):
    """Converts raw RGB pixels to the input that the backbone was trained on.

    `mean` and `std` are in 0..255 and in `channel_order` ("RGB" or "BGR"), as in the original's config. The
    canvas beyond an image's own size becomes 0, which after normalisation is the mean colour: the original
    pads like this, and the pixels around an image cannot influence its results. Raises SameboxError for
    another `channel_order`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], channel_order: str) -> None:
        super().__init__()
        if channel_order not in ("RGB", "BGR"):
            raise SameboxError(f"normalize.channel_order: {channel_order!r} is none of RGB, BGR")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32)[:, None, None], persistent=False)
        self.channel_order = channel_order

    def forward(self, images: Tensor, sizes: Tensor) -> Tensor:
        """images [B,3,H,W] RGB 0..255, sizes [B,2] height and width of each image → [B,3,H,W]."""
        if self.channel_order == "BGR":
            images = images.flip(1)
        return torch.where(ValidCells(sizes)(images, 1), (images - self.mean) / self.std, 0.0)


class Deployable(nn.Module):
    """A network with its normalisation, so that a deployment only resizes and pads.

    Inputs: images [B,3,H,W] float32, raw RGB 0..255, each at the top left of its canvas; sizes [B,2] int64,
    the height and width of each image.

    Outputs, as named in `network.outputs` (BOXES, MASKS, KEYPOINTS, PANOPTIC or SEGMENTS), in descending
    order of score, with zeros in padding rows:

    - boxes [B,K,4] x1 y1 x2 y2 in canvas pixels, scores [B,K], labels [B,K] int64;
    - masks [B,K,M,M]: the probability in 0..1 that a point belongs to the object, on a grid over the box, or
      [B,K,H/4,W/4] over the canvas if the network has no boxes;
    - keypoints [B,K,P,M,M]: the logits of each of P keypoints on a grid over the box;
    - semantics [B,S,H/4,W/4]: the logits of things (0) and of each class of stuff, over the canvas.

    With `postprocess=False` the outputs are those of `network.heads`, as named in `network.head_outputs`.
    """

    def __init__(self, normalize: Normalize, network: nn.Module, postprocess: bool = True) -> None:
        super().__init__()
        self.normalize = normalize
        self.network = network
        self.postprocess = postprocess
        self.outputs = cast(tuple[str, ...], network.outputs if postprocess else network.head_outputs)

    def forward(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """The outputs by name, see the class."""
        network = self.network if self.postprocess else cast(Callable, self.network.heads)
        return network(self.normalize(images, sizes), sizes)
