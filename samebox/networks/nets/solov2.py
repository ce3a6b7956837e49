"""SOLOv2: Dynamic and Fast Instance Segmentation (Wang et al., 2020, arXiv:2003.10152).

Parameters are named as in MMDetection: `backbone.*`, `neck.*`,
`mask_head.{cls_convs,kernel_convs}.i.{conv,gn}`, `mask_head.conv_{cls,kernel}`,
`mask_head.mask_feature_head.{convs_all_levels.i.convj,conv_pred}`. The names of SOLO's own code are supported
as well.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samebox.checkpoints.weights import Rename
from samebox.networks.blocks.conv import ConvModule, conv_tower
from samebox.networks.blocks.dense import probability
from samebox.networks.blocks.nms import gather_rows
from samebox.networks.blocks.topk import stable_topk
from samebox.networks.nets.contract import SEGMENTS

bilinear = partial(F.interpolate, mode="bilinear", align_corners=False)


def with_coordinates(x: Tensor) -> Tensor:
    """Appends the x and y coordinates of the cells, each from -1 to 1: [B,C,H,W] → [B,C+2,H,W].

    A single cell has the coordinate -1, as the original's linspace gives it.
    """
    batch, _, height, width = x.shape
    indices = (torch.arange(extent, device=x.device).to(x.dtype) for extent in (height, width))
    down, across = (index * 2 / index[-1:].clamp(min=1) - 1 for index in indices)
    grid = torch.stack([across.expand(height, -1), down[:, None].expand(-1, width)])
    return torch.cat([x, grid.expand(batch, -1, -1, -1)], 1)


def conv_gn(inputs: int, outputs: int, kernel: int, groups: int) -> ConvModule:
    """Convolution, GroupNorm, ReLU."""
    return ConvModule(inputs, outputs, kernel, norm=nn.GroupNorm(groups, outputs))


class MaskFeatureHead(nn.Module):
    """The features at stride 4 from which all masks are computed, from the finest `levels` of a pyramid."""

    def __init__(
        self, in_channels: int, channels: int, out_channels: int, levels: int, norm_groups: int
    ) -> None:
        super().__init__()
        self.convs_all_levels = nn.ModuleList()
        for level in range(levels):
            first = in_channels + 2 if level == levels - 1 else in_channels
            widths = [first, *[channels] * max(level, 1)]
            convs = nn.Sequential()
            for index, (inputs, outputs) in enumerate(pairwise(widths)):
                convs.add_module(f"conv{index}", conv_gn(inputs, outputs, 3, norm_groups))
            self.convs_all_levels.append(convs)
        self.conv_pred = conv_gn(channels, out_channels, 1, norm_groups)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Pyramid [B,in_channels,H_i,W_i], finest first → [B,out_channels,H_0,W_0]."""
        *finer, coarsest = maps[: len(self.convs_all_levels)]
        levels = zip(self.convs_all_levels, [*finer, with_coordinates(coarsest)], strict=True)
        parts = [self._to_finest(convs, x, upsample=i > 0) for i, (convs, x) in enumerate(levels)]
        return self.conv_pred(torch.stack(parts).sum(0))

    def _to_finest(self, convs: nn.Module, x: Tensor, upsample: bool) -> Tensor:
        """A level after its convolutions, each followed by upsampling by 2 if `upsample`."""
        for conv in convs.children():
            x = conv(x)
            if upsample:
                x = bilinear(x, scale_factor=2.0)
        return x


class SOLOv2Head(nn.Module):
    """For each cell of a level's square grid, class logits and the kernel that computes the object's mask.

    `grids`: number of cells along a side, finest level first. In shapes, S is that number.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        convs: int,
        num_classes: int,
        grids: Sequence[int],
        norm_groups: int,
        mask_feature_head: MaskFeatureHead,
        kernel_channels: int,
    ) -> None:
        super().__init__()
        self.mask_feature_head = mask_feature_head
        norm = partial(nn.GroupNorm, norm_groups)
        self.cls_convs = conv_tower(in_channels, channels, convs, norm)
        self.kernel_convs = conv_tower(in_channels + 2, channels, convs, norm)  # 2 coordinates
        self.conv_cls = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.conv_kernel = nn.Conv2d(channels, kernel_channels, 3, padding=1)
        self.grids = tuple(grids)

    def forward(self, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Pyramid, finest first → for each grid logits [B,C,S,S] and kernels [B,kernel_channels,S,S]."""
        # the finest level is halved, the coarsest upsampled to the one before it
        levels = [F.avg_pool2d(maps[0], 2), *maps[1:-1], bilinear(maps[-1], size=maps[-2].shape[2:])]
        return [self.predict(x, grid) for x, grid in zip(levels, self.grids, strict=True)]

    def predict(self, x: Tensor, grid: int) -> tuple[Tensor, Tensor]:
        """[B,in_channels,H,W] → logits and kernels on a grid of `grid` x `grid` cells."""
        kernels = bilinear(with_coordinates(x), size=(grid, grid))
        classes = kernels[:, :-2]
        for conv in self.cls_convs:
            classes = conv(classes)
        for conv in self.kernel_convs:
            kernels = conv(kernels)
        return self.conv_cls(classes), self.conv_kernel(kernels)


def points_nms(scores: Tensor) -> Tensor:
    """Scores [B,C,S,S]; 0 where the left, upper or upper left neighbour has a higher score."""
    side = scores.shape[3]
    largest = F.max_pool2d(scores, 2, stride=1, padding=1)[:, :, :side, :side]
    return torch.where(scores == largest, scores, 0.0)


def matrix_nms(masks: Tensor, scores: Tensor, labels: Tensor, sigma: float) -> Tensor:
    """Gaussian Matrix NMS: the decayed scores [B,N] of masks [B,N,P] of 0 and 1, labels [B,N], in any order.

    Each mask of the same class and a higher score is a rival. A score is multiplied by the minimum over its
    rivals of exp(-sigma * IoU²) / exp(-sigma * M²), where M is the largest IoU of the rival with its own
    rivals.
    """
    intersection = masks @ masks.transpose(1, 2)
    areas = masks.sum(2)
    iou = intersection / (areas[:, :, None] + areas[:, None] - intersection).clamp(min=1)
    index = torch.arange(scores.shape[1], device=scores.device)
    rival, score = scores[:, :, None], scores[:, None]
    is_rival = (rival > score) | ((rival == score) & (index[:, None] < index))
    iou = torch.where(is_rival & (labels[:, :, None] == labels[:, None]), iou, 0.0)
    largest_iou = iou.amax(1)  # [B,N]: of each mask with its rivals
    decay = torch.exp(sigma * (largest_iou[:, :, None].square() - iou.square()))
    return scores * decay.amin(1).clamp(max=1)


# Names of SOLO's own code, in which the head is called bbox_head and classes are called categories
RENAMES = (
    Rename(r"^bbox_head\.cate_convs\.", "mask_head.cls_convs."),
    Rename(r"^bbox_head\.kernel_convs\.", "mask_head.kernel_convs."),
    Rename(r"^bbox_head\.solo_cate\.", "mask_head.conv_cls."),
    Rename(r"^bbox_head\.solo_kernel\.", "mask_head.conv_kernel."),
    Rename(r"^mask_feat_head\.conv_pred\.0\.", "mask_head.mask_feature_head.conv_pred."),
    Rename(r"^mask_feat_head\.", "mask_head.mask_feature_head."),
)


class SOLOv2(nn.Module):
    """Backbone, pyramid, head; then the masks of the `nms_pre` top (cell, class) pairs, and Matrix NMS.

    Pairs need a class score above `score_threshold` and a mask of more cells than the stride of their level.
    The class score is multiplied by the mean probability of the mask's cells. After the NMS, detections need
    a score of at least `filter_threshold`. `strides`: of the levels of the grids.
    """

    outputs = SEGMENTS
    renames: ClassVar[tuple[Rename, ...]] = RENAMES

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        mask_head: SOLOv2Head,
        strides: Sequence[int],
        nms_pre: int,
        count: int,
        score_threshold: float,
        filter_threshold: float,
        sigma: float,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.mask_head = mask_head
        self.strides = tuple(strides)
        self.nms_pre = nms_pre
        self.count = count
        self.score_threshold = score_threshold
        self.filter_threshold = filter_threshold
        self.sigma = sigma

    @property
    def head_outputs(self) -> tuple[str, ...]:
        """Names of the tensors that `heads` returns: logits_40, kernels_40, … by grid, then mask_features."""
        names = (f"{name}_{grid}" for grid in self.mask_head.grids for name in ("logits", "kernels"))
        return (*names, "mask_features")

    def heads(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] → the grids of SOLOv2Head.forward, and the mask features."""
        maps = self.neck(self.backbone(images))
        grids = [x for grid in self.mask_head(maps) for x in grid]
        tensors = (*grids, self.mask_head.mask_feature_head(maps))
        return dict(zip(self.head_outputs, tensors, strict=True))

    def forward(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] and sizes [B,2] → the outputs, see `samebox.networks.nets.contract`."""
        *grids, features = self.heads(images, sizes).values()
        scores, labels, kernels, strides = self._pairs(grids[::2], grids[1::2])
        masks = (kernels @ features.flatten(2)).sigmoid()  # [B,nms_pre,cells]
        binary = (masks > 0.5).to(masks.dtype)
        areas = binary.sum(2)
        scores = scores * (masks * binary).sum(2) / areas.clamp(min=1) * (areas > strides)
        scores = matrix_nms(binary, scores, labels, self.sigma)
        scores, order = stable_topk(torch.where(scores >= self.filter_threshold, scores, 0.0), self.count)
        is_detection = scores > 0
        masks = torch.where(is_detection[..., None], gather_rows(masks, order), 0.0)
        masks = masks.unflatten(2, features.shape[2:])
        return dict(zip(self.outputs, (scores, labels.gather(1, order) * is_detection, masks), strict=True))

    def _pairs(
        self, logits: Sequence[Tensor], kernels: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Top pairs of all grids: scores and labels [B,N], kernels [B,N,E], strides of their levels [B,N]."""
        classes = logits[0].shape[1]
        by_cell = torch.cat([points_nms(probability(x)).flatten(2).transpose(1, 2) for x in logits], 1)
        by_cell = torch.where(by_cell > self.score_threshold, by_cell, 0.0)
        scores, pair = stable_topk(by_cell.flatten(1), self.nms_pre)
        cell = pair // classes
        kernels_by_cell = torch.cat([x.flatten(2).transpose(1, 2) for x in kernels], 1)
        cell_counts = [x.shape[2] * x.shape[3] for x in logits]
        strides = torch.tensor(self.strides, device=scores.device, dtype=scores.dtype)
        stride_by_cell = strides.repeat_interleave(torch.tensor(cell_counts, device=scores.device))
        return scores, pair % classes, gather_rows(kernels_by_cell, cell), stride_by_cell[cell]
