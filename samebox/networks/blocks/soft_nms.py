"""Soft-NMS (Bodla et al., 2017, arXiv:1704.04503) with a Gaussian and a fixed number of results."""

import torch
from torch import Tensor, nn

from samebox.networks.blocks.boxes import areas, intersections
from samebox.networks.blocks.loop import State, while_loop
from samebox.networks.blocks.nms import gather_rows


class SoftNMS(nn.Module):
    """The `count` best boxes, where each one taken makes those of its class weaker that it overlaps.

    A score is multiplied by exp(-IoU²/sigma); a box whose score falls below `least` is dropped. One box is
    taken a turn, so no more turns are needed than there are results.
    """

    def __init__(self, sigma: float, least: float, count: int) -> None:
        super().__init__()
        self.sigma = sigma
        self.least = least
        self.count = count

    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """boxes [B,N,4], scores [B,N] (0: no candidate), labels [B,N] → the same with N = `count`.

        By descending score, those of the end; rows to spare are zero.
        """
        rows = torch.arange(self.count, device=scores.device)
        indices = torch.arange(scores.shape[1], device=scores.device)
        state = (
            torch.zeros_like(rows[0]),
            scores.clone(),
            scores.new_zeros(scores.shape[0], self.count),
            labels.new_zeros(labels.shape[0], self.count),
        )

        def unfinished(turn: Tensor, left: Tensor, _kept: Tensor, _taken: Tensor) -> Tensor:
            return (turn < self.count) & (left > 0).any()

        def take(turn: Tensor, left: Tensor, kept: Tensor, taken: Tensor) -> State:
            score, index = left.max(1, keepdim=True)
            box, label = gather_rows(boxes, index), labels.gather(1, index)
            common = intersections(box, boxes)[:, 0]
            iou = common / (areas(box) + areas(boxes) - common)
            weight = torch.where(labels == label, torch.exp(-iou.square() / self.sigma), 1.0)
            weaker = left * weight
            gone = (weaker < self.least) | (indices == index)
            now = rows == turn
            return (
                turn + 1,
                torch.where(gone, 0.0, weaker),
                torch.where(now, score, kept),
                torch.where(now, index, taken),
            )

        _, _, kept, taken = while_loop(unfinished, take, state)
        found = kept > 0
        return (
            torch.where(found[..., None], gather_rows(boxes, taken), 0.0),
            kept,
            labels.gather(1, taken) * found,
        )
