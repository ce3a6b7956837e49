"""CornerNet: Detecting Objects as Paired Keypoints (Law and Deng, 2018, arXiv:1808.01244).

Parameters are named as in MMDetection: `backbone.*` and, for each stack i,
`bbox_head.{tl,br}_pool.i.{direction1_conv,direction2_conv,aftpool_conv,conv1,conv2}`,
`bbox_head.{tl,br}_{heat,emb,off}.i.{0,1}.conv`.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samebox.networks.blocks.conv import ConvModule
from samebox.networks.blocks.dense import probability
from samebox.networks.blocks.hourglass import HourglassNet, conv_bn
from samebox.networks.blocks.soft_nms import SoftNMS
from samebox.networks.blocks.topk import stable_topk
from samebox.networks.nets.contract import BOXES

# Corner pooling reaches 2^STEPS cells along a row or column: 4096 pixels
STEPS = 10


def running_maximum(x: Tensor, dim: int, backwards: bool) -> Tensor:
    """Cumulative maximum of x [B,C,H,W], at least 0, along `dim` (2 or 3), or from its end if `backwards`.

    Each step doubles the reach.
    """
    length = x.shape[dim]
    for step in range(STEPS):
        reach = 2**step
        before = (0, reach) if backwards else (reach, 0)
        padded = F.pad(x, before if dim == 3 else (0, 0, *before))
        x = torch.maximum(x, padded.narrow(dim, reach if backwards else 0, length))
    return x


class CornerPool(nn.Module):
    """Corner pooling: the sum of running maxima along columns and along rows, and a projection of the input.

    `backwards`: for the top left corner, which pools from below and from the right.
    """

    def __init__(self, channels: int, branch_channels: int, backwards: bool) -> None:
        super().__init__()
        self.direction1_conv = conv_bn(channels, branch_channels, 3)
        self.direction2_conv = conv_bn(channels, branch_channels, 3)
        self.aftpool_conv = conv_bn(branch_channels, channels, 3, activation=nn.Identity)
        self.conv1 = conv_bn(channels, channels, 1, activation=nn.Identity)
        self.conv2 = conv_bn(channels, channels, 3)
        self.relu = nn.ReLU()
        self.backwards = backwards

    def forward(self, x: Tensor) -> Tensor:
        """[B,channels,H,W] → the same shape."""
        down = running_maximum(self.direction1_conv(x), 2, self.backwards)
        across = running_maximum(self.direction2_conv(x), 3, self.backwards)
        return self.conv2(self.relu(self.aftpool_conv(down + across) + self.conv1(x)))


class Corners(NamedTuple):
    """Top corners of one kind, top left or bottom right, each field [B,N]; x and y in pixels of the image."""

    scores: Tensor
    labels: Tensor
    embeddings: Tensor
    x: Tensor
    y: Tensor


class CornerHead(nn.Module):
    """Heatmaps of both corners for each class, their embeddings, and their offsets within a cell.

    There are predictors for every stack; inference uses only those of the last.
    """

    def __init__(self, stacks: int, channels: int, branch_channels: int, num_classes: int) -> None:
        super().__init__()
        self.tl_pool = nn.ModuleList(CornerPool(channels, branch_channels, True) for _ in range(stacks))
        self.br_pool = nn.ModuleList(CornerPool(channels, branch_channels, False) for _ in range(stacks))
        for corner in ("tl", "br"):
            for part, outputs in (("heat", num_classes), ("emb", 1), ("off", 2)):
                predictors = (_predictor(channels, outputs) for _ in range(stacks))
                self.add_module(f"{corner}_{part}", nn.ModuleList(predictors))

    def forward(self, x: Tensor, stack: int = -1) -> dict[str, Tensor]:
        """[B,channels,H,W] → the maps of both corners: `tl_heat`, `br_heat` [B,num_classes,H,W], `tl_emb`,
        `br_emb` [B,1,H,W], `tl_off`, `br_off` [B,2,H,W] (x, y).
        """
        maps = {}
        for corner, pool in (("tl", self.tl_pool[stack]), ("br", self.br_pool[stack])):
            pooled = pool(x)
            for part in ("heat", "emb", "off"):
                predictors = self.get_submodule(f"{corner}_{part}")
                maps[f"{corner}_{part}"] = list(predictors.children())[stack](pooled)
        return maps


def _predictor(channels: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        ConvModule(channels, channels, 3), ConvModule(channels, outputs, 1, activation=nn.Identity)
    )


def local_maxima(heat: Tensor) -> Tensor:
    """Heatmap [B,C,H,W]; 0 where a cell is not the maximum of the 3x3 cells around it."""
    return torch.where(F.max_pool2d(heat, 3, stride=1, padding=1) == heat, heat, 0.0)


class CornerNet(nn.Module):
    """Backbone and head; then the top `corners` of each kind, their top `pairs`, and Soft-NMS.

    A pair is a candidate if both corners have the same class, their embeddings differ by at most
    `distance_threshold`, and the first lies to the left of and above the second. The original does not resize
    images; it centres each on a canvas whose sides are one less than a multiple of `multiple`. Here every
    image of a batch is centred so on its own part of the batch's canvas.
    """

    outputs = BOXES
    head_outputs = ("tl_heat", "tl_emb", "tl_off", "br_heat", "br_emb", "br_off")

    def __init__(
        self,
        backbone: HourglassNet,
        bbox_head: CornerHead,
        nms: SoftNMS,
        multiple: int,
        corners: int,
        pairs: int,
        distance_threshold: float,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.bbox_head = bbox_head
        self.nms = nms
        self.multiple = multiple
        self.corners = corners
        self.pairs = pairs
        self.distance_threshold = distance_threshold

    def heads(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W], sizes [B,2] → maps of the centred images, see CornerHead.forward."""
        return self.bbox_head(self.backbone(self.centre(images, sizes))[-1])

    def centre(self, images: Tensor, sizes: Tensor) -> Tensor:
        """Images [B,3,H,W] of sizes [B,2], moved from the top left to the centre of their own canvases."""
        return shift(images, sizes, self._margins(sizes))

    def forward(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] and sizes [B,2] → the outputs, see `samebox.networks.nets.contract`."""
        heads = self.heads(images, sizes)
        top_left, bottom_right = (self._top_corners(heads, corner, sizes) for corner in ("tl", "br"))
        boxes, scores, labels = self._top_pairs(top_left, bottom_right)
        return dict(zip(self.outputs, self.nms(boxes, scores, labels), strict=True))

    def _canvas_sizes(self, sizes: Tensor) -> Tensor:
        """Height and width [B,2] of the original's canvas for each image."""
        return torch.div(sizes, self.multiple, rounding_mode="floor") * self.multiple + (self.multiple - 1)

    def _margins(self, sizes: Tensor) -> Tensor:
        """Rows above and columns to the left of each image on its canvas, [B,2]."""
        canvas = self._canvas_sizes(sizes)
        half = torch.div(canvas, 2, rounding_mode="floor")
        return half - torch.div(sizes, 2, rounding_mode="floor")

    def _top_corners(self, heads: dict[str, Tensor], corner: str, sizes: Tensor) -> Corners:
        heat = local_maxima(probability(heads[f"{corner}_heat"]))
        height, width = heat.shape[2:]
        canvas = self._canvas_sizes(sizes)
        cells = torch.div(canvas + 1, 4, rounding_mode="floor")  # rows and columns [B,2]
        rows = torch.arange(height, device=heat.device) < cells[:, :1]
        columns = torch.arange(width, device=heat.device) < cells[:, 1:]
        on_canvas = (rows[:, :, None] & columns[:, None])[:, None]
        scores, index = stable_topk(torch.where(on_canvas, heat, 0.0).flatten(1), self.corners)
        area = height * width
        labels = torch.div(index, area, rounding_mode="floor")
        cell = index - labels * area
        row = torch.div(cell, width, rounding_mode="floor")
        column = cell - row * width
        offsets = heads[f"{corner}_off"].flatten(2).gather(2, cell[:, None].expand(-1, 2, -1))
        embeddings = heads[f"{corner}_emb"].flatten(1).gather(1, cell)
        stride, margins = canvas / cells, self._margins(sizes)
        x = (column + offsets[:, 0]) * stride[:, 1:] - margins[:, 1:]
        y = (row + offsets[:, 1]) * stride[:, :1] - margins[:, :1]
        return Corners(scores, labels, embeddings, x.clamp(min=0), y.clamp(min=0))

    def _top_pairs(self, first: Corners, second: Corners) -> tuple[Tensor, Tensor, Tensor]:
        """Top left and bottom right corners → the top pairs: boxes [B,N,4], scores and labels [B,N]."""
        left, top, right, bottom = (
            value.expand(-1, self.corners, self.corners).flatten(1)
            for value in (first.x[:, :, None], first.y[:, :, None], second.x[:, None], second.y[:, None])
        )
        scores = ((first.scores[:, :, None] + second.scores[:, None]) / 2).flatten(1)
        same_class = first.labels[:, :, None] == second.labels[:, None]
        near = (first.embeddings[:, :, None] - second.embeddings[:, None]).abs() <= self.distance_threshold
        is_candidate = (same_class & near).flatten(1) & (right > left) & (bottom > top)
        scores, pair = stable_topk(torch.where(is_candidate, scores, 0.0), self.pairs)
        boxes = torch.stack([value.gather(1, pair) for value in (left, top, right, bottom)], 2)
        labels = first.labels.gather(1, torch.div(pair, self.corners, rounding_mode="floor"))
        return boxes, scores, labels


def shift(images: Tensor, sizes: Tensor, margins: Tensor) -> Tensor:
    """Images [B,C,H,W] of sizes [B,2], moved down and to the right by margins [B,2]; 0 around them."""
    valid = []
    for dim in (2, 3):
        extent = images.shape[dim]
        source = torch.arange(extent, device=images.device) - margins[:, dim - 2 : dim - 1]  # [B,extent]
        valid.append((source >= 0) & (source < sizes[:, dim - 2 : dim - 1]))
        index = source.clamp(0, extent - 1)
        index = index[:, None, :, None] if dim == 2 else index[:, None, None]
        images = images.gather(dim, index.expand(-1, images.shape[1], *images.shape[2:]))
    return torch.where((valid[0][:, :, None] & valid[1][:, None])[:, None], images, 0.0)
