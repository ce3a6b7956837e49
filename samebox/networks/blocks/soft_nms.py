"""Gaussian Soft-NMS (Bodla et al., 2017, arXiv:1704.04503) with a fixed number of results."""

import torch
from torch import Tensor, nn

from samebox.networks.blocks.boxes import areas, intersections
from samebox.networks.blocks.loop import State, while_loop
from samebox.networks.blocks.nms import gather_rows, select_rows


class SoftNMS(nn.Module):
    """Selects `count` boxes by score; each selected box lowers the scores of the boxes of its class.

    Scores are multiplied by exp(-IoU²/sigma). A box whose score falls below `min_score` is dropped. One box
    is selected per iteration, so the loop runs at most `count` times.
    """

    def __init__(self, sigma: float, min_score: float, count: int) -> None:
        super().__init__()
        self.sigma = sigma
        self.min_score = min_score
        self.count = count

    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """boxes [B,N,4], scores [B,N] (0: no candidate), labels [B,N] → the same with N = `count`.

        Rows are in descending order of the decayed scores; padding rows are zero.
        """
        rows = torch.arange(self.count, device=scores.device)
        indices = torch.arange(scores.shape[1], device=scores.device)
        state = (
            torch.zeros_like(rows[0]),
            scores.clone(),
            scores.new_zeros(scores.shape[0], self.count),
            labels.new_zeros(labels.shape[0], self.count),
        )

        def unfinished(row: Tensor, remaining: Tensor, _scores: Tensor, _indices: Tensor) -> Tensor:
            return (row < self.count) & (remaining > 0).any()

        def select_next(row: Tensor, remaining: Tensor, selected: Tensor, selected_indices: Tensor) -> State:
            score, index = remaining.max(1, keepdim=True)
            box, label = gather_rows(boxes, index), labels.gather(1, index)
            common = intersections(box, boxes)[:, 0]
            # without the limit, two boxes without an area would give 0 / 0
            iou = common / (areas(box) + areas(boxes) - common).clamp(min=torch.finfo(common.dtype).tiny)
            weight = torch.where(labels == label, torch.exp(-iou.square() / self.sigma), 1.0)
            decayed = remaining * weight
            dropped = (decayed < self.min_score) | (indices == index)
            current = rows == row
            return (
                row + 1,
                torch.where(dropped, 0.0, decayed),
                torch.where(current, score, selected),
                torch.where(current, index, selected_indices),
            )

        _, _, selected, selected_indices = while_loop(unfinished, select_next, state)
        return select_rows(boxes, selected, labels, selected_indices)
