"""Greedy non-maximum suppression with a fixed number of results, from plain operators.

A suppression matrix [B,N,M] holds at [b,i,j] whether box i suppresses box j if box i is kept.
"""

import torch
from torch import Tensor, nn

from samebox.core.errors import SameboxError
from samebox.networks.blocks.boxes import as_continuous, clip, has_area, iou_above
from samebox.networks.blocks.loop import State, while_loop
from samebox.networks.blocks.topk import stable_topk

# Candidates processed together: the largest intermediate tensor is [B,BLOCK,BLOCK]. An ordinary image has
# fewer candidates than this and takes one iteration.
BLOCK = 256


def gather_rows(x: Tensor, index: Tensor) -> Tensor:
    """x [B,N,C], index [B,M] → [B,M,C]."""
    return x.gather(1, index[:, :, None].expand(-1, -1, x.shape[2]))


def select_rows(
    boxes: Tensor, scores: Tensor, labels: Tensor, index: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes [B,N,4] and labels [B,N] at index [B,K], and their scores [B,K]; rows of score 0 become zero."""
    valid = scores > 0
    # not by a product, because the box of a padding row may be infinite
    rows = torch.where(valid[..., None], gather_rows(boxes, index), 0.0)
    return rows, scores, labels.gather(1, index) * valid


def highest_rows(boxes: Tensor, scores: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` rows of the highest scores, see `stable_topk`; padding rows are zero."""
    highest, index = stable_topk(scores, count)
    return select_rows(boxes, highest, labels, index)


class GreedyNMS(nn.Module):
    """Greedy NMS of each class, with at most `count` results.

    A box is kept if its IoU with every kept box of its class and a higher score is at most `iou_threshold`.
    Candidates are processed in blocks, in descending order of score. In a block, suppression is repeated
    until nothing changes; that fixpoint is the result of the greedy algorithm (see `greedy_fixpoint`). The
    boxes kept so far suppress the block, also in blocks. The result is exact for any number of candidates and
    never sorts all of them: TensorRT-RTX sorts at most 3840 values.

    `per_class`: limit on the results of each class, or None. For `inclusive` boxes see `blocks.boxes`. Raises
    SameboxError if a limit is below 1.
    """

    def __init__(
        self, iou_threshold: float, count: int, per_class: int | None = None, inclusive: bool = False
    ) -> None:
        super().__init__()
        if count < 1 or (per_class is not None and per_class < 1):
            name, value = ("count", count) if count < 1 else ("per_class", per_class)
            raise SameboxError(f"nms.{name}: {value}: give a number from 1 up")
        self.iou_threshold = iou_threshold
        self.count = count
        self.per_class = per_class
        self.inclusive = inclusive

    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """boxes [B,N,4], scores [B,N] (0: no candidate), labels [B,N] → the same with N = `count`.

        Rows are in descending order of score, equal scores in the order of the input; padding rows are zero.
        """
        if torch.compiler.is_exporting() or not scores.is_cpu:
            return self._batched(boxes, scores, labels)
        # image by image: otherwise each takes as many iterations as the image of the batch that takes most
        images = zip(boxes.split(1), scores.split(1), labels.split(1), strict=True)
        kept = zip(*(self._batched(*image) for image in images), strict=True)
        kept_boxes, kept_scores, kept_labels = (torch.cat(field) for field in kept)
        return kept_boxes, kept_scores, kept_labels

    def _batched(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, with one loop for all images."""
        batch = scores.shape[0]
        state = (
            scores.clone(),
            boxes.new_zeros(batch, self.count, 4),
            scores.new_zeros(batch, self.count),
            labels.new_zeros(batch, self.count),
        )

        def unfinished(remaining: Tensor, _boxes: Tensor, kept_scores: Tensor, _labels: Tensor) -> Tensor:
            return ((remaining > 0).any(1) & (kept_scores[:, -1] == 0)).any()

        def next_block(
            remaining: Tensor, kept_boxes: Tensor, kept_scores: Tensor, kept_labels: Tensor
        ) -> State:
            block_scores, index = stable_topk(remaining, min(BLOCK, remaining.shape[1]))
            block_boxes, block_labels = gather_rows(boxes, index), labels.gather(1, index)
            by_kept = self._suppressed_by_kept(
                kept_boxes, kept_scores, kept_labels, block_boxes, block_labels
            )
            matrix = self._suppression_matrix(block_boxes, block_labels, block_boxes, block_labels)
            keep = greedy_fixpoint((block_scores > 0) & ~by_kept, matrix)
            if self.per_class is not None and self.per_class < self.count:
                kept_or_keep = torch.cat([kept_scores > 0, keep], 1)
                ranks = ranks_in_class(kept_or_keep, torch.cat([kept_labels, block_labels], 1))
                keep = keep & (ranks[:, self.count :] < self.per_class)
            return (
                remaining.scatter(1, index, torch.zeros_like(block_scores)),
                *highest_rows(
                    torch.cat([kept_boxes, block_boxes], 1),
                    torch.cat([kept_scores, block_scores * keep], 1),
                    torch.cat([kept_labels, block_labels], 1),
                    self.count,
                ),
            )

        _, kept_boxes, kept_scores, kept_labels = while_loop(unfinished, next_block, state)
        return kept_boxes, kept_scores, kept_labels

    def _suppressed_by_kept(
        self, kept_boxes: Tensor, kept_scores: Tensor, kept_labels: Tensor, boxes: Tensor, labels: Tensor
    ) -> Tensor:
        """Whether a kept box suppresses each of boxes [B,N,4], labels [B,N]: [B,N] bool.

        The kept boxes are processed in blocks, and only as far as their rows are filled: at first none is,
        and seldom all `count` of them.
        """
        if self.count <= BLOCK:
            matrix = self._suppression_matrix(kept_boxes, kept_labels, boxes, labels)
            return suppressed(kept_scores > 0, matrix)
        number = torch.count_nonzero(kept_scores, 1).max()

        def unfinished(start: Tensor, _suppressed: Tensor) -> Tensor:
            return start < number

        def next_block(start: Tensor, by_earlier: Tensor) -> State:
            index = start + torch.arange(BLOCK, device=start.device)
            index = index.clamp(max=self.count - 1)
            block_boxes, block_labels = kept_boxes.index_select(1, index), kept_labels.index_select(1, index)
            matrix = self._suppression_matrix(block_boxes, block_labels, boxes, labels)
            # a padding row must not suppress: as an inclusive box, four zeros are one pixel
            is_kept = kept_scores.index_select(1, index) > 0
            return start + BLOCK, by_earlier | suppressed(is_kept, matrix)

        start = (torch.zeros_like(number), torch.zeros_like(labels, dtype=torch.bool))
        return while_loop(unfinished, next_block, start)[1]

    def _suppression_matrix(
        self, boxes: Tensor, labels: Tensor, others: Tensor, other_labels: Tensor
    ) -> Tensor:
        """boxes [B,N,4], labels [B,N] against others [B,M,4], other_labels [B,M] → [B,N,M] bool."""
        same_class = labels[:, :, None] == other_labels[:, None, :]
        continuous = as_continuous(boxes, self.inclusive), as_continuous(others, self.inclusive)
        return same_class & iou_above(*continuous, self.iou_threshold)


def clip_and_drop_empty(
    detections: tuple[Tensor, Tensor, Tensor], sizes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Clip the results of GreedyNMS to images of sizes [B,2] (height, width) and drop boxes without area.

    As in detectron2 this happens after the `count` results are chosen, so fewer may remain; the remaining
    rows are compacted.
    """
    boxes, scores, labels = detections
    boxes = clip(boxes, sizes)
    return highest_rows(boxes, scores * has_area(boxes), labels, scores.shape[1])


def ranks_in_class(kept: Tensor, labels: Tensor) -> Tensor:
    """For each row, how many kept rows of its label precede it: kept [B,N] bool, labels [B,N] → [B,N]."""
    same_class = labels[:, :, None] == labels[:, None, :]
    return torch.bmm(kept.to(torch.float32)[:, None], same_class.to(torch.float32).triu(1))[:, 0]


def suppressed(kept: Tensor, matrix: Tensor) -> Tensor:
    """Which boxes a kept box suppresses: kept [B,N] bool, suppression matrix [B,N,M] → [B,M] bool."""
    # a matrix product is much faster than any() on every runtime
    return torch.bmm(kept.to(torch.float32)[:, None], matrix.to(torch.float32))[:, 0] > 0


def greedy_fixpoint(candidates: Tensor, matrix: Tensor) -> Tensor:
    """The candidates that greedy suppression keeps: [B,N] bool.

    candidates [B,N] bool, in descending order of score; matrix [B,N,N]: suppression matrix. Each iteration
    settles at least one more link of the longest chain of suppressions. The loop ends when nothing changes:
    then a candidate is dropped if and only if a kept box suppresses it, which is true of the greedy result
    alone.
    """
    rank = torch.arange(matrix.shape[1], device=matrix.device)
    by_higher = (matrix & (rank[:, None] < rank)).to(torch.float32)  # only a higher score suppresses

    def unfinished(_keep: Tensor, changed: Tensor) -> Tensor:
        return changed.any()

    def suppress(keep: Tensor, _changed: Tensor) -> State:
        next_keep = candidates & ~suppressed(keep, by_higher)
        return next_keep, (next_keep != keep).any(1)

    start = (candidates.clone(), torch.ones_like(candidates[:, 0]))
    return while_loop(unfinished, suppress, start)[0]
