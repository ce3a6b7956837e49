"""What every network takes and gives, whatever its family."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import cast

import torch
from torch import Tensor, nn

from samebox.core.errors import SameboxError
from samebox.networks.blocks.valid import ValidCells

# The outputs of a network that finds boxes, in the order in which its graph has them
BOXES = ("boxes", "scores", "labels")
# … and of one that finds a mask in each box as well
MASKS = (*BOXES, "masks")
# … and of one that finds keypoints in each box
KEYPOINTS = (*BOXES, "keypoints")
# … and of one that finds masks and tells the class of every point of the canvas besides
PANOPTIC = (*MASKS, "semantics")
# … and of one that finds masks alone, all over the canvas
SEGMENTS = ("scores", "labels", "masks")

_padding_rows = ContextVar("compute_padding_rows", default=False)


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
    """Raw RGB pixels → what the backbone was trained on.

    `mean` and `std` are in 0..255 and in `channel_order` ("RGB" or "BGR"), as the source's config
    gives them. Everything beyond an image's own size becomes 0, which after normalisation is the mean
    colour: so the source pads, and so an image's surroundings on a canvas cannot change its answer.
    Raises SameboxError for another `channel_order`.
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
        """images [B,3,H,W] RGB 0..255, sizes [B,2] valid height and width → [B,3,H,W]."""
        if self.channel_order == "BGR":
            images = images.flip(1)
        return torch.where(ValidCells(sizes)(images, 1), (images - self.mean) / self.std, 0.0)


class Deployable(nn.Module):
    """A network with its normalisation inside, so that a deployment only resizes and pads.

    images [B,3,H,W] float32, raw RGB 0..255; sizes [B,2] int64, the valid height and width of each →
    boxes [B,K,4] x1 y1 x2 y2 in canvas pixels, scores [B,K], labels [B,K] int64 by descending score,
    and masks [B,K,M,M], the probability in 0..1 that a point is the object's, on a grid of cells over
    the row's own box, or keypoints [B,K,P,M,M], the logits of each of P keypoints on such a grid; rows
    to spare are zero. A network without boxes gives masks [B,K,H/4,W/4] over the whole canvas instead. A
    panoptic one adds semantics [B,S,H/4,W/4], the logits of things (0) and of the classes of stuff.
    `network` names its outputs in `network.outputs`, in their order: BOXES, MASKS, KEYPOINTS, PANOPTIC or
    SEGMENTS. Without `postprocess` they are what its `heads` gives, as `network.head_outputs` names it.
    """

    def __init__(self, normalize: Normalize, network: nn.Module, postprocess: bool = True) -> None:
        super().__init__()
        self.normalize = normalize
        self.network = network
        self.postprocess = postprocess
        self.outputs = cast(tuple[str, ...], network.outputs if postprocess else network.head_outputs)

    def forward(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """The named outputs of the contract, see the class."""
        network = self.network if self.postprocess else cast(Callable, self.network.heads)
        return network(self.normalize(images, sizes), sizes)
