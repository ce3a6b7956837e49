"""PointRend: Image Segmentation as Rendering (Kirillov et al., 2019, arXiv:1912.08193), on Mask R-CNN.

Parameters are named as in MMDetection: those of R-CNN, and
`roi_head.mask_head.{downsample_conv.conv,fcs.i,fc_logits}`, `roi_head.point_head.{fcs.i.conv,fc_logits}`.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samebox.networks.blocks.nms import GreedyNMS
from samebox.networks.nets.rcnn import RoIHead

# Number of boxes of an image whose masks eager PyTorch refines at once. Its allocator requests every tensor
# of more than 32 MB from the system; for 16 boxes the largest tensor has 17 MB.
EAGER_BLOCK = 16


def cell_centres(cells: Tensor, size: int) -> Tensor:
    """Centres [...,2] of cells [...] of a `size` x `size` grid: x y in 0..1 over the grid.

    Cells are numbered row by row.
    """
    rows = cells // size
    return (torch.stack([cells - rows * size, rows], dim=-1) + 0.5) / size


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear samples, 0 outside: maps [B,C,H,W], points [B,K,P,2] x y in 0..1 over the map → [B,C,K,P]."""
    return F.grid_sample(maps, points * 2 - 1, mode="bilinear", padding_mode="zeros", align_corners=False)


def sample_in_boxes(x: Tensor, stride: int, boxes: Tensor, points: Tensor) -> Tensor:
    """Bilinear samples of a map at points given relative to boxes.

    x [B,C,H,W] of `stride`, boxes [B,K,4] in pixels, points [B,K,P,2] x y in 0..1 over their box → [B*K,C,P].
    """
    height, width = x.shape[2:]
    corners, sides = boxes[:, :, None, :2], boxes[:, :, None, 2:] - boxes[:, :, None, :2]
    across, down = (corners + points * sides).unbind(-1)  # [B,K,P], pixels
    samples = sample_points(x, torch.stack([across / (stride * width), down / (stride * height)], dim=-1))
    return samples.transpose(1, 2).flatten(0, 1)


def most_uncertain(logits: Tensor, count: int) -> Tensor:
    """Indices of the `count` cells with logits nearest to 0, or of all cells: logits [N,S,S] → [N,count]."""
    certainty = logits.flatten(1).abs()
    if count >= certainty.shape[1]:
        return torch.arange(certainty.shape[1], device=logits.device).expand_as(certainty)
    return certainty.topk(count, largest=False).indices


class CoarseMaskHead(nn.Module):
    """A coarse mask of each class from the crop of a box, by fully connected layers.

    `side`: of the crops, S in shapes; masks have half of it, M.
    """

    def __init__(
        self, side: int, in_channels: int, channels: int, fcs: int, fc_channels: int, num_classes: int
    ) -> None:
        super().__init__()
        self.side = side
        self.downsample_conv = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(in_channels, channels, 2, stride=2), relu=nn.ReLU())
        )
        half = side // 2
        widths = [channels * half**2, *[fc_channels] * fcs]
        self.fcs = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(widths))
        self.relu = nn.ReLU()
        self.fc_logits = nn.Linear(fc_channels, num_classes * half**2)
        self.shape = (num_classes, half, half)

    def forward(self, crops: Tensor) -> Tensor:
        """[N,in_channels,S,S] → logits [N,num_classes,M,M]."""
        x = self.downsample_conv(crops).flatten(1)
        for fc in self.fcs:
            x = self.relu(fc(x))
        return self.fc_logits(x).unflatten(1, self.shape)


class PointHead(nn.Module):
    """Mask logits at points, by an MLP whose every layer also reads the coarse logits."""

    def __init__(self, in_channels: int, channels: int, fcs: int, num_classes: int) -> None:
        super().__init__()
        widths = [in_channels, *[channels] * fcs]
        self.fcs = nn.ModuleList(
            nn.Sequential(OrderedDict(conv=nn.Conv1d(i + num_classes, o, 1), relu=nn.ReLU()))
            for i, o in pairwise(widths)
        )
        self.fc_logits = nn.Conv1d(channels + num_classes, num_classes, 1)

    def forward(self, fine: Tensor, coarse: Tensor, classes: Tensor) -> Tensor:
        """Features [N,in_channels,P], coarse logits [N,num_classes,P], classes [N,k] → logits [N,k,P]."""
        x = fine
        for fc in self.fcs:
            x = fc(torch.cat([x, coarse], dim=1))
        # fc_logits only for the given classes
        weight = self.fc_logits.weight[:, :, 0][classes]  # [N,k,channels+num_classes]
        bias = cast(Tensor, self.fc_logits.bias)[classes]
        return torch.bmm(weight, torch.cat([x, coarse], dim=1)) + bias[..., None]


class PointRendRoIHead(RoIHead):
    """Refines coarse masks by rendering: a mask is upsampled in steps, and after each step its most uncertain
    points are predicted again from the finest level of the pyramid.

    `stride`: of that level. Each of `steps` steps upsamples by `scale` and predicts `points` points. A step
    predicts none if the next step would predict all of them again.
    """

    def __init__(
        self,
        bbox_head: nn.Module,
        nms: GreedyNMS,
        score_threshold: float,
        mask_head: CoarseMaskHead,
        point_head: PointHead,
        stride: int,
        steps: int,
        points: int,
        scale: int,
    ) -> None:
        super().__init__(bbox_head, nms, score_threshold, mask_head)
        self.point_head = point_head
        self.stride = stride
        self.steps = steps
        self.points = points
        self.scale = scale

    def masks(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Pyramid, finest first, boxes [B,K,4], labels [B,K] → probabilities [B,K,M,M] of the labels."""
        if torch.compiler.is_exporting():
            return self._masks(maps[0], boxes, labels)
        blocks = zip(boxes.split(EAGER_BLOCK, 1), labels.split(EAGER_BLOCK, 1), strict=True)
        return torch.cat([self._masks(maps[0], *block) for block in blocks], 1)

    def _masks(self, finest: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        coarse = cast(CoarseMaskHead, self.mask_head)(self.crops(finest, boxes))
        logits = self.refine(finest, boxes, coarse, labels.reshape(-1, 1))
        return logits.sigmoid().reshape(*labels.shape, *logits.shape[2:])

    def crops(self, finest: Tensor, boxes: Tensor) -> Tensor:
        """[B,C,H,W], boxes [B,K,4] → crops for the mask head, sampled at the centres of bins: [B*K,C,S,S]."""
        side = cast(CoarseMaskHead, self.mask_head).side
        bins = cell_centres(torch.arange(side**2, device=boxes.device), side)
        points = bins.expand(*boxes.shape[:2], -1, -1)
        return sample_in_boxes(finest, self.stride, boxes, points).unflatten(2, (side, side))

    def refine(self, finest: Tensor, boxes: Tensor, coarse: Tensor, classes: Tensor) -> Tensor:
        """Coarse logits [B*K,C,S,S] of boxes [B,K,4] → logits [B*K,k,M,M] of the classes [B*K,k].

        The first class is the label of the box; its logits select the uncertain points.
        """
        size = coarse.shape[3]
        logits = coarse.gather(1, classes[:, :, None, None].expand(-1, -1, size, size))
        for remaining in reversed(range(self.steps)):
            size *= self.scale
            logits = F.interpolate(logits, size=(size, size), mode="bilinear", align_corners=False)
            if remaining == 0 or self.points < (self.scale * size) ** 2:
                cells = most_uncertain(logits[:, 0], self.points)
                predicted = self._predict(finest, boxes, coarse, classes, cell_centres(cells, size))
                index = cells[:, None].expand(-1, classes.shape[1], -1)
                logits = logits.flatten(2).scatter(2, index, predicted).unflatten(2, (size, size))
        return logits

    def _predict(
        self, finest: Tensor, boxes: Tensor, coarse: Tensor, classes: Tensor, points: Tensor
    ) -> Tensor:
        """Logits [B*K,k,P] of the classes at points [B*K,P,2], x y in 0..1 over their box."""
        fine = sample_in_boxes(finest, self.stride, boxes, points.reshape(*boxes.shape[:2], -1, 2))
        return self.point_head(fine, sample_points(coarse, points[:, None])[:, :, 0], classes)
