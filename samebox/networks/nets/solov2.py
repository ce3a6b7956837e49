"""SOLOv2: Dynamic and Fast Instance Segmentation (Wang et al., 2020, arXiv:2003.10152).

Parameters are named as in MMDetection: `backbone.*`, `neck.*`,
`mask_head.{cls_convs,kernel_convs}.i.{conv,gn}`, `mask_head.conv_{cls,kernel}`,
`mask_head.mask_feature_head.{convs_all_levels.i.convj,conv_pred}`; those of SOLO's own code are read as well.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samebox.checkpoints.weights import Rename
from samebox.networks.blocks.conv import ConvModule
from samebox.networks.blocks.dense import probability
from samebox.networks.blocks.nms import gather_rows
from samebox.networks.blocks.topk import stable_topk
from samebox.networks.nets.contract import SEGMENTS


def with_coordinates(x: Tensor) -> Tensor:
    """[B,C,H,W] → [B,C+2,H,W]: where a cell is across and down its map, each from -1 to 1."""
    batch, _, height, width = x.shape
    down, across = (
        torch.arange(extent, device=x.device).to(x.dtype) * 2 / (extent - 1) - 1 for extent in (height, width)
    )
    grid = torch.stack([across.expand(height, -1), down[:, None].expand(-1, width)])
    return torch.cat([x, grid.expand(batch, -1, -1, -1)], 1)


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """[B,C,H,W] → [B,C,*size], bilinearly."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def with_norm(inputs: int, outputs: int, kernel: int, groups: int) -> ConvModule:
    """Convolution, GroupNorm, ReLU."""
    return ConvModule(inputs, outputs, kernel, norm=nn.GroupNorm(groups, outputs))


class MaskFeatureHead(nn.Module):
    """One map of stride 4 from the four finest levels of a pyramid: what all masks are made of."""

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
                convs.add_module(f"conv{index}", with_norm(inputs, outputs, 3, norm_groups))
            self.convs_all_levels.append(convs)
        self.conv_pred = with_norm(channels, out_channels, 1, norm_groups)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Pyramid [B,in_channels,H,W], finest first → [B,out_channels,H0,W0], of the finest level's size."""
        *finer, coarsest = maps[: len(self.convs_all_levels)]
        levels = zip(self.convs_all_levels, [*finer, with_coordinates(coarsest)], strict=True)
        parts = [self._at_finest(convs, x, enlarged=i > 0) for i, (convs, x) in enumerate(levels)]
        return self.conv_pred(torch.stack(parts).sum(0))

    def _at_finest(self, convs: nn.Module, x: Tensor, enlarged: bool) -> Tensor:
        """A level after its convolutions, each followed by a step to twice the size where `enlarged`."""
        for conv in convs.children():
            x = conv(x)
            if enlarged:
                x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return x


class SOLOv2Head(nn.Module):
    """At each cell of a level's square grid class logits, and the kernel that makes the mask of its object.

    `grids`: the cells of a side, finest level first.
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
        widths = [in_channels, *[channels] * convs]
        self.cls_convs = nn.ModuleList(with_norm(i, o, 3, norm_groups) for i, o in pairwise(widths))
        widths[0] += 2  # the coordinates
        self.kernel_convs = nn.ModuleList(with_norm(i, o, 3, norm_groups) for i, o in pairwise(widths))
        self.conv_cls = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.conv_kernel = nn.Conv2d(channels, kernel_channels, 3, padding=1)
        self.grids = tuple(grids)

    def forward(self, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Pyramid, finest first → of each grid logits [B,C,S,S], kernels [B,kernel_channels,S,S]."""
        # the finest level is halved, the coarsest enlarged to the one before it
        levels = [F.avg_pool2d(maps[0], 2), *maps[1:-1], resized(maps[-1], maps[-2].shape[2:])]
        return [self.predict(x, grid) for x, grid in zip(levels, self.grids, strict=True)]

    def predict(self, x: Tensor, grid: int) -> tuple[Tensor, Tensor]:
        """[B,in_channels,H,W] → logits and kernels on a grid of so many cells a side."""
        kernels = resized(with_coordinates(x), (grid, grid))
        classes = kernels[:, :-2]
        for conv in self.cls_convs:
            classes = conv(classes)
        for conv in self.kernel_convs:
            kernels = conv(kernels)
        return self.conv_cls(classes), self.conv_kernel(kernels)


def peaks(scores: Tensor) -> Tensor:
    """scores [B,C,S,S] where a cell is the largest of the 2x2 that reach to its left and above, else 0."""
    side = scores.shape[3]
    largest = F.max_pool2d(scores, 2, stride=1, padding=1)[:, :, :side, :side]
    return torch.where(scores == largest, scores, 0.0)


def matrix_nms(masks: Tensor, scores: Tensor, labels: Tensor, sigma: float) -> Tensor:
    """The scores [B,N] after Matrix NMS with a Gaussian, in no particular order; masks [B,N,P] of 0 and 1.

    A score decays by how far a better mask of the same class overlaps its mask, but for what that one is
    itself overlapped by better ones.
    """
    common = masks @ masks.transpose(1, 2)
    areas = masks.sum(2)
    iou = common / (areas[:, :, None] + areas[:, None] - common).clamp(min=1)
    index = torch.arange(scores.shape[1], device=scores.device)
    ahead, behind = scores[:, :, None], scores[:, None]
    better = (ahead > behind) | ((ahead == behind) & (index[:, None] < index))
    iou = torch.where(better & (labels[:, :, None] == labels[:, None]), iou, 0.0)
    own = iou.amax(1)  # [B,N]: how far a better one overlaps each
    decay = torch.exp(sigma * (own[:, :, None].square() - iou.square()))
    return scores * decay.amin(1).clamp(max=1)


# SOLO's own, which call the head that of boxes, and categories what are classes
RENAMES = (
    Rename(r"^bbox_head\.cate_convs\.", "mask_head.cls_convs."),
    Rename(r"^bbox_head\.kernel_convs\.", "mask_head.kernel_convs."),
    Rename(r"^bbox_head\.solo_cate\.", "mask_head.conv_cls."),
    Rename(r"^bbox_head\.solo_kernel\.", "mask_head.conv_kernel."),
    Rename(r"^mask_feat_head\.conv_pred\.0\.", "mask_head.mask_feature_head.conv_pred."),
    Rename(r"^mask_feat_head\.", "mask_head.mask_feature_head."),
)


class SOLOv2(nn.Module):
    """Backbone, pyramid, head; then the masks of the `nms_pre` best (cell, class) pairs, and Matrix NMS.

    A pair needs a class score above `score_threshold`, to which its mask's mean probability is a factor, and
    a mask of more cells than its level's stride; after the NMS a score of `filter_threshold`. `strides`:
    of the grids' levels.
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
        """What `heads` gives, by the side of the grid: logits_40, kernels_40, …, then mask_features."""
        names = (f"{name}_{grid}" for grid in self.mask_head.grids for name in ("logits", "kernels"))
        return (*names, "mask_features")

    def heads(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] → SOLOv2Head.forward's grids, and the map that kernels apply to."""
        maps = self.neck(self.backbone(images))
        grids = [x for grid in self.mask_head(maps) for x in grid]
        values = (*grids, self.mask_head.mask_feature_head(maps))
        return dict(zip(self.head_outputs, values, strict=True))

    def forward(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] and sizes [B,2] → the outputs of `samebox.networks.nets.contract`."""
        *grids, features = self.heads(images, sizes).values()
        scores, labels, kernels, strides = self._pairs(grids[::2], grids[1::2])
        masks = (kernels @ features.flatten(2)).sigmoid()  # [B,nms_pre,cells]
        solid = (masks > 0.5).to(masks.dtype)
        areas = solid.sum(2)
        scores = scores * (masks * solid).sum(2) / areas.clamp(min=1) * (areas > strides)
        scores = matrix_nms(solid, scores, labels, self.sigma)
        scores, order = stable_topk(torch.where(scores >= self.filter_threshold, scores, 0.0), self.count)
        taken = scores > 0
        masks = torch.where(taken[..., None], gather_rows(masks, order), 0.0)
        masks = masks.unflatten(2, features.shape[2:])
        return dict(zip(self.outputs, (scores, labels.gather(1, order) * taken, masks), strict=True))

    def _pairs(
        self, logits: Sequence[Tensor], kernels: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The best pairs of all grids: scores and labels [B,N], kernels [B,N,E], level strides [B,N]."""
        classes = logits[0].shape[1]
        by_cell = torch.cat([peaks(probability(x)).flatten(2).transpose(1, 2) for x in logits], 1)
        wanted = torch.where(by_cell > self.score_threshold, by_cell, 0.0)
        scores, pair = stable_topk(wanted.flatten(1), self.nms_pre)
        cell = pair // classes
        every = torch.cat([x.flatten(2).transpose(1, 2) for x in kernels], 1)
        lengths = [x.shape[2] * x.shape[3] for x in logits]
        stride = torch.tensor(self.strides, device=scores.device, dtype=scores.dtype)
        of_cell = stride.repeat_interleave(torch.tensor(lengths, device=scores.device))
        return scores, pair % classes, gather_rows(every, cell), of_cell[cell]
