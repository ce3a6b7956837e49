"""Cascade R-CNN (Cai and Vasconcelos, 2018, arXiv:1712.00726), with masks or without.

Parameters are named as in MMDetection: those of R-CNN, with the stage before the name:
`roi_head.bbox_head.i.fc_cls`, `roi_head.mask_head.i.conv_logits`, …
"""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from samebox.networks.blocks.dense import class_probabilities
from samebox.networks.nets.rcnn import BoxHead, FCNMaskHead


class CascadedBoxHeads(nn.ModuleList):
    """Class-agnostic BoxHeads in a row: each starts from the boxes of the one before."""

    def forward(self, maps: Sequence[Tensor], boxes: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """As BoxHead.forward."""
        refined, logits = self.refine(maps, boxes, sizes)
        return refined, class_probabilities(logits)

    def refine(self, maps: Sequence[Tensor], boxes: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """As BoxHead.refine: the boxes are the last head's, the logits the mean of all."""
        logits = []
        for head in cast(Iterable[BoxHead], self):
            refined, own = head.refine(maps, boxes, sizes)
            boxes = refined[:, :, 0]
            logits.append(own)
        return refined, torch.stack(logits).mean(0)


class AveragedMaskHeads(nn.ModuleList):
    """FCNMaskHeads that answer together: the mean of their probabilities. They share the first's crops."""

    def forward(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """As FCNMaskHead.forward."""
        heads = list(cast(Iterable[FCNMaskHead], self))
        crops = heads[0].roi_align(maps, boxes)
        return torch.stack([head.predict(crops, labels) for head in heads]).mean(0)
