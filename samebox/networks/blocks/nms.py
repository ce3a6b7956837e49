"""Greedy non-maximum suppression with a fixed number of results, from plain operators."""

import torch
from torch import Tensor, nn

from samebox.core.errors import SameboxError
from samebox.networks.blocks.boxes import as_continuous, clip, has_area, iou_above
from samebox.networks.blocks.loop import State, while_loop
from samebox.networks.blocks.topk import stable_topk

# Candidates looked at together: the largest intermediate is [B,BLOCK,BLOCK], and an ordinary image
# has fewer candidates than this and is done in one turn.
BLOCK = 256


def gather_rows(x: Tensor, index: Tensor) -> Tensor:
    """x [B,N,C], index [B,M] → [B,M,C]."""
    return x.gather(1, index[:, :, None].expand(-1, -1, x.shape[2]))


class GreedyNMS(nn.Module):
    """The `count` best boxes that no better box of their class overlaps by more than `iou_threshold`.

    Candidates are taken best first in blocks. Inside a block, whom does a kept box strike out? is asked
    until the answer stays the same: at that fixpoint it is the greedy answer. What was kept before strikes
    it in blocks as well. Exact for any number of candidates, without sorting all of them (TensorRT-RTX sorts
    at most 3840). No class has more than `per_class` of them, where that is given. Boxes may be `inclusive`,
    see `samebox.networks.blocks.boxes`.
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

        By descending score, equal scores in the order they came in; rows to spare are zero.
        """
        if torch.compiler.is_exporting() or not scores.is_cpu:
            return self._together(boxes, scores, labels)
        # one image after the other: none waits for the one of a batch that takes most turns
        images = zip(boxes.split(1), scores.split(1), labels.split(1), strict=True)
        found = zip(*(self._together(*image) for image in images), strict=True)
        kept_boxes, kept_scores, kept_labels = (torch.cat(field) for field in found)
        return kept_boxes, kept_scores, kept_labels

    def _together(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, turn by turn for all images."""
        batch = scores.shape[0]
        state = (
            scores.clone(),
            boxes.new_zeros(batch, self.count, 4),
            scores.new_zeros(batch, self.count),
            labels.new_zeros(batch, self.count),
        )

        def unfinished(left: Tensor, _boxes: Tensor, kept: Tensor, _labels: Tensor) -> Tensor:
            return ((left > 0).any(1) & (kept[:, -1] == 0)).any()

        def next_block(left: Tensor, kept_boxes: Tensor, kept_scores: Tensor, kept_labels: Tensor) -> State:
            block_scores, index = stable_topk(left, min(BLOCK, left.shape[1]))
            block_boxes, block_labels = gather_rows(boxes, index), labels.gather(1, index)
            struck = self._struck(kept_boxes, kept_scores, kept_labels, block_boxes, block_labels)
            strikes = self._strikes(block_boxes, block_labels, block_boxes, block_labels)
            keep = fixpoint((block_scores > 0) & ~struck, strikes)
            if self.per_class is not None and self.per_class < self.count:
                rivals = torch.cat([kept_scores > 0, keep], 1), torch.cat([kept_labels, block_labels], 1)
                keep = keep & (better_of_class(*rivals)[:, self.count :] < self.per_class)
            return (
                left.scatter(1, index, torch.zeros_like(block_scores)),
                *self._best(
                    torch.cat([kept_boxes, block_boxes], 1),
                    torch.cat([kept_scores, block_scores * keep], 1),
                    torch.cat([kept_labels, block_labels], 1),
                ),
            )

        _, kept_boxes, kept_scores, kept_labels = while_loop(unfinished, next_block, state)
        return kept_boxes, kept_scores, kept_labels

    def _struck(
        self, kept_boxes: Tensor, kept_scores: Tensor, kept_labels: Tensor, boxes: Tensor, labels: Tensor
    ) -> Tensor:
        """Which of boxes [B,N,4], labels [B,N] are struck by those kept so far, best first: [B,N] bool.

        In blocks, as many as there are: at first none is kept, and seldom as many as there is room for.
        """
        if self.count <= BLOCK:
            return strike(kept_scores > 0, self._strikes(kept_boxes, kept_labels, boxes, labels))
        number = torch.count_nonzero(kept_scores, 1).max()

        def unfinished(start: Tensor, _struck: Tensor) -> Tensor:
            return start < number

        def next_block(start: Tensor, struck: Tensor) -> State:
            index = start + torch.arange(BLOCK, device=start.device)
            index = index.clamp(max=self.count - 1)
            block_boxes, block_labels = kept_boxes.index_select(1, index), kept_labels.index_select(1, index)
            strikes = self._strikes(block_boxes, block_labels, boxes, labels)
            real = kept_scores.index_select(1, index) > 0  # an inclusive box of zeros is a pixel
            return start + BLOCK, struck | strike(real, strikes)

        start = (torch.zeros_like(number), torch.zeros_like(labels, dtype=torch.bool))
        return while_loop(unfinished, next_block, start)[1]

    def _strikes(self, boxes: Tensor, labels: Tensor, others: Tensor, other_labels: Tensor) -> Tensor:
        """[B,N,4], [B,N] against [B,M,4], [B,M] → [B,N,M] bool."""
        same = labels[:, :, None] == other_labels[:, None, :]
        outlines = as_continuous(boxes, self.inclusive), as_continuous(others, self.inclusive)
        return same & iou_above(*outlines, self.iou_threshold)

    def _best(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        top, index = stable_topk(scores, self.count)
        found = top > 0
        # rows to spare are whatever the sort put there: emptied, or they would strike in the next block
        # not by a product: a spare row's box may be infinite
        rows = torch.where(found[..., None], gather_rows(boxes, index), 0.0)
        return rows, top, labels.gather(1, index) * found


def clip_and_drop_empty(found: tuple[Tensor, Tensor, Tensor], sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What GreedyNMS `found`, clipped to images of `sizes` [B,2], without what then has no area.

    So detectron2 does it at last, when the `count` best are chosen: fewer may remain. They close ranks.
    """
    boxes, scores, labels = found
    boxes = clip(boxes, sizes)
    scores, order = stable_topk(scores * has_area(boxes), scores.shape[1])
    taken = scores > 0
    rows = torch.where(taken[..., None], gather_rows(boxes, order), 0.0)
    return rows, scores, labels.gather(1, order) * taken


def better_of_class(kept: Tensor, labels: Tensor) -> Tensor:
    """How many rows before each are kept and of its label: kept [B,N] bool, labels [B,N] → [B,N]."""
    same = labels[:, :, None] == labels[:, None, :]
    return torch.bmm(kept.to(torch.float32)[:, None], same.to(torch.float32).triu(1))[:, 0]


def strike(kept: Tensor, strikes: Tensor) -> Tensor:
    """Whom does one of `kept` [B,N] bool strike? strikes [B,N,M], i strikes j → [B,M] bool."""
    # a product with a matrix instead of any(): it is the faster by far on every runtime
    return torch.bmm(kept.to(torch.float32)[:, None], strikes.to(torch.float32))[:, 0] > 0


def fixpoint(candidates: Tensor, strikes: Tensor) -> Tensor:
    """Who of `candidates` [B,N], best first, greedy suppression keeps; strikes [B,N,N], i strikes j.

    Each turn settles at least one more link of the longest chain of strikes, and turns end when none
    changes anything: then everybody kept is struck by nobody kept, which only the greedy answer is.
    """
    rank = torch.arange(strikes.shape[1], device=strikes.device)
    better = (strikes & (rank[:, None] < rank)).to(torch.float32)  # only a better box strikes

    def changed(_keep: Tensor, changes: Tensor) -> Tensor:
        return changes.any()

    def turn(keep: Tensor, _changes: Tensor) -> State:
        now = candidates & ~strike(keep, better)
        return now, (now != keep).any(1)

    start = (candidates.clone(), torch.ones_like(candidates[:, 0]))
    return while_loop(changed, turn, start)[0]
