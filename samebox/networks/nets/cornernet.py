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
from samebox.networks.blocks.hourglass import HourglassNet, with_norm
from samebox.networks.blocks.soft_nms import SoftNMS
from samebox.networks.blocks.topk import stable_topk
from samebox.networks.nets.contract import BOXES

# A corner's map sees 2^STEPS cells along a row or column: 4096 pixels
STEPS = 10


def running_maximum(x: Tensor, dim: int, backwards: bool) -> Tensor:
    """x [B,C,H,W], not negative: of each cell the largest of it and all before it along `dim`, 2 or 3.

    `backwards`: all after it. Each step looks twice as far as the one before.
    """
    length = x.shape[dim]
    for step in range(STEPS):
        reach = 2**step
        before = (0, reach) if backwards else (reach, 0)
        padded = F.pad(x, before if dim == 3 else (0, 0, *before))
        x = torch.maximum(x, padded.narrow(dim, reach if backwards else 0, length))
    return x


class CornerPool(nn.Module):
    """What a corner sees along its row and its column, each from a branch of its own, added to what it is.

    `backwards`: the corner is the top left one, and looks down and to the right.
    """

    def __init__(self, channels: int, branch_channels: int, backwards: bool) -> None:
        super().__init__()
        self.direction1_conv = with_norm(channels, branch_channels, 3)
        self.direction2_conv = with_norm(channels, branch_channels, 3)
        self.aftpool_conv = with_norm(branch_channels, channels, 3, activation=nn.Identity)
        self.conv1 = with_norm(channels, channels, 1, activation=nn.Identity)
        self.conv2 = with_norm(channels, channels, 3)
        self.relu = nn.ReLU()
        self.backwards = backwards

    def forward(self, x: Tensor) -> Tensor:
        """[B,channels,H,W] → the same shape."""
        down = running_maximum(self.direction1_conv(x), 2, self.backwards)
        across = running_maximum(self.direction2_conv(x), 3, self.backwards)
        return self.conv2(self.relu(self.aftpool_conv(down + across) + self.conv1(x)))


class Corners(NamedTuple):
    """The best corners of one kind, each field [B,N]; x and y in pixels of the image on its canvas."""

    scores: Tensor
    labels: Tensor
    embeddings: Tensor
    x: Tensor
    y: Tensor


class CornerHead(nn.Module):
    """Heatmaps of both corners for each class, their embeddings, and their offsets within a cell.

    There is one of each for every stack, of which inference needs the last alone.
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
        """[B,channels,H,W] → of tl and br _heat [B,num_classes,H,W], _emb [B,1,H,W], _off [B,2,H,W]: x, y."""
        found = {}
        for corner, pool in (("tl", self.tl_pool[stack]), ("br", self.br_pool[stack])):
            pooled = pool(x)
            for part in ("heat", "emb", "off"):
                predictors = self.get_submodule(f"{corner}_{part}")
                found[f"{corner}_{part}"] = list(predictors.children())[stack](pooled)
        return found


def _predictor(channels: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        ConvModule(channels, channels, 3), ConvModule(channels, outputs, 1, activation=nn.Identity)
    )


def peaks(heat: Tensor) -> Tensor:
    """heat [B,C,H,W] where a cell is the largest of the 3x3 around it, else 0."""
    return torch.where(F.max_pool2d(heat, 3, stride=1, padding=1) == heat, heat, 0.0)


class CornerNet(nn.Module):
    """Backbone, head; then the `corners` best of either kind, all their pairs, and Soft-NMS of the best ones.

    A pair is an object where both corners are of one class, their embeddings differ by no more than
    `distance_threshold`, and they are the right way round. The original pastes an image, which it does not
    resize, into the middle of a canvas whose sides are one less than a multiple of `multiple`. So is every
    image of a batch here, on its own part of the batch's canvas.
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
        """Normalised images [B,3,H,W], sizes [B,2] → CornerHead.forward's maps of the centred images."""
        return self.bbox_head(self.backbone(self.placed(images, sizes))[-1])

    def placed(self, images: Tensor, sizes: Tensor) -> Tensor:
        """Images [B,3,H,W] in the middle of their own canvases."""
        return centred(images, sizes, self._margins(sizes))

    def forward(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] and sizes [B,2] → the outputs of `samebox.networks.nets.contract`."""
        heads = self.heads(images, sizes)
        top_left, bottom_right = (self._corners(heads, corner, sizes) for corner in ("tl", "br"))
        boxes, scores, labels = self._paired(top_left, bottom_right)
        return dict(zip(self.outputs, self.nms(boxes, scores, labels), strict=True))

    def _own_canvas(self, sizes: Tensor) -> Tensor:
        """The canvas [B,2] that the original gives each image."""
        return torch.div(sizes, self.multiple, rounding_mode="floor") * self.multiple + (self.multiple - 1)

    def _margins(self, sizes: Tensor) -> Tensor:
        """How far down and across its canvas each image begins, [B,2]."""
        canvas = self._own_canvas(sizes)
        half = torch.div(canvas, 2, rounding_mode="floor")
        return half - torch.div(sizes, 2, rounding_mode="floor")

    def _corners(self, heads: dict[str, Tensor], corner: str, sizes: Tensor) -> Corners:
        heat = peaks(probability(heads[f"{corner}_heat"]))
        height, width = heat.shape[2:]
        canvas = self._own_canvas(sizes)
        cells = torch.div(canvas + 1, 4, rounding_mode="floor")  # of the image's own canvas
        down = torch.arange(height, device=heat.device) < cells[:, :1]
        across = torch.arange(width, device=heat.device) < cells[:, 1:]
        own = (down[:, :, None] & across[:, None])[:, None]
        scores, index = stable_topk(torch.where(own, heat, 0.0).flatten(1), self.corners)
        area = height * width
        labels = torch.div(index, area, rounding_mode="floor")
        cell = index - labels * area
        row = torch.div(cell, width, rounding_mode="floor")
        column = cell - row * width
        offsets = heads[f"{corner}_off"].flatten(2).gather(2, cell[:, None].expand(-1, 2, -1))
        embeddings = heads[f"{corner}_emb"].flatten(1).gather(1, cell)
        pixels, margins = canvas / cells, self._margins(sizes)
        x = (column + offsets[:, 0]) * pixels[:, 1:] - margins[:, 1:]
        y = (row + offsets[:, 1]) * pixels[:, :1] - margins[:, :1]
        return Corners(scores, labels, embeddings, x.clamp(min=0), y.clamp(min=0))

    def _paired(self, first: Corners, second: Corners) -> tuple[Tensor, Tensor, Tensor]:
        """Top left and bottom right corners → the best pairs: boxes [B,N,4], scores, labels [B,N]."""
        left, top, right, bottom = (
            value.expand(-1, self.corners, self.corners).flatten(1)
            for value in (first.x[:, :, None], first.y[:, :, None], second.x[:, None], second.y[:, None])
        )
        scores = ((first.scores[:, :, None] + second.scores[:, None]) / 2).flatten(1)
        alike = first.labels[:, :, None] == second.labels[:, None]
        near = (first.embeddings[:, :, None] - second.embeddings[:, None]).abs() <= self.distance_threshold
        found = (alike & near).flatten(1) & (right > left) & (bottom > top)
        scores, pair = stable_topk(torch.where(found, scores, 0.0), self.pairs)
        boxes = torch.stack([value.gather(1, pair) for value in (left, top, right, bottom)], 2)
        labels = first.labels.gather(1, torch.div(pair, self.corners, rounding_mode="floor"))
        return boxes, scores, labels


def centred(images: Tensor, sizes: Tensor, margins: Tensor) -> Tensor:
    """images [B,C,H,W] moved down and to the right by their margins [B,2]; 0 around sizes [B,2]."""
    valid = []
    for dim in (2, 3):
        extent = images.shape[dim]
        at = torch.arange(extent, device=images.device) - margins[:, dim - 2 : dim - 1]  # [B,extent]
        valid.append((at >= 0) & (at < sizes[:, dim - 2 : dim - 1]))
        index = at.clamp(0, extent - 1)
        index = index[:, None, :, None] if dim == 2 else index[:, None, None]
        images = images.gather(dim, index.expand(-1, images.shape[1], *images.shape[2:]))
    return torch.where((valid[0][:, :, None] & valid[1][:, None])[:, None], images, 0.0)
