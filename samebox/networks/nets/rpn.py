"""Region Proposal Network of Faster R-CNN (Ren et al., 2015, arXiv:1506.01497).

Parameters are named as in MMDetection: `rpn_conv`, `rpn_cls`, `rpn_reg`.
"""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from samebox.networks.blocks.anchors import Anchors, DetectronAnchors
from samebox.networks.blocks.boxes import decode_deltas
from samebox.networks.blocks.dense import candidates, probability, unsaturated_score
from samebox.networks.blocks.nms import GreedyNMS, gather_rows
from samebox.networks.blocks.topk import stable_topk


class RPNHead(nn.Module):
    """Proposals: the `nms_pre` top anchors of each level, decoded, and an NMS of each level.

    Anchors are ranked by their probability, or with `by_logit`, as in detectron2, by their logit; the
    objectness is then the `unsaturated_score`. Boxes are inclusive if those of `nms` are. For `shrink_limit`
    see `decode_deltas`. In shapes, A is the number of anchors at a cell.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        anchors: Anchors | DetectronAnchors,
        nms: GreedyNMS,
        nms_pre: int,
        by_logit: bool = False,
        shrink_limit: bool = True,
    ) -> None:
        super().__init__()
        self.rpn_conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.relu = nn.ReLU()
        self.rpn_cls = nn.Conv2d(channels, anchors.per_cell, 1)
        self.rpn_reg = nn.Conv2d(channels, anchors.per_cell * 4, 1)
        self.anchors = anchors
        self.nms = nms
        self.nms_pre = nms_pre
        self.score = unsaturated_score if by_logit else probability
        self.decode = partial(decode_deltas, inclusive=nms.inclusive, shrink_limit=shrink_limit)

    def forward(self, maps: Sequence[Tensor], sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Maps [B,in_channels,H,W], finest first, and sizes [B,2] → proposals [B,N,4], objectness [B,N].

        N = `nms.count`, in descending order of objectness; padding rows are zero. Proposals are x1 y1 x2 y2
        in canvas pixels, clipped to their own image.
        """
        return self.select([self.predict(x) for x in maps], sizes)

    def select(self, levels: Sequence[tuple[Tensor, Tensor]], sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Results of `predict` for each level, finest first, and sizes [B,2] → proposals as in `forward`."""
        selected = candidates(
            levels,
            self.anchors,
            1,
            self.nms_pre,
            0.0,
            sizes,
            decode=self.decode,
            score=self.score,
            inclusive=self.nms.inclusive,
        )
        # levels are treated as images of one batch, so that one NMS loop processes all of them
        by_level = [x.unflatten(1, (len(levels), self.nms_pre)).flatten(0, 1) for x in selected]
        boxes, scores, _ = (x.unflatten(0, (-1, len(levels))).flatten(1, 2) for x in self.nms(*by_level))
        objectness, index = stable_topk(scores, self.nms.count)
        return gather_rows(boxes, index), objectness

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B,in_channels,H,W] → objectness logits [B,A,H,W], deltas [B,A*4,H,W]."""
        x = self.relu(self.rpn_conv(x))
        return self.rpn_cls(x), self.rpn_reg(x)
