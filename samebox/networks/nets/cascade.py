"""Heads of Cascade R-CNN (Cai and Vasconcelos, 2018, arXiv:1712.00726), with and without masks.

Parameters are named as in MMDetection: those of R-CNN, with the index of the stage:
`roi_head.bbox_head.i.fc_cls`, `roi_head.mask_head.i.conv_logits`, …
"""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from samebox.networks.blocks.dense import class_probabilities
from samebox.networks.nets.rcnn import BoxHead, FCNMaskHead


class CascadedBoxHeads(nn.ModuleList):
    """A sequence of class-agnostic BoxHeads; each refines the boxes of the one before."""

    def forward(self, maps: Sequence[Tensor], boxes: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """As BoxHead.forward."""
        refined, logits = self.refine(maps, boxes, sizes)
        return refined, class_probabilities(logits)

    def refine(self, maps: Sequence[Tensor], boxes: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """As BoxHead.refine: boxes of the last head, and the mean of the logits of all heads."""
        logits = []
        for head in cast(Iterable[BoxHead], self):
            refined, head_logits = head.refine(maps, boxes, sizes)
            boxes = refined[:, :, 0]
            logits.append(head_logits)
        return refined, torch.stack(logits).mean(0)


class AveragedMaskHeads(nn.ModuleList):
    """FCNMaskHeads whose probabilities are averaged. They share the RoIAlign crops of the first."""

    def forward(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """As FCNMaskHead.forward."""
        heads = list(cast(Iterable[FCNMaskHead], self))
        crops = heads[0].roi_align(maps, boxes)
        return torch.stack([head.predict(crops, labels) for head in heads]).mean(0)
