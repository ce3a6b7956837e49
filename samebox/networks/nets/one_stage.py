"""Base class of one-stage detectors, whose heads predict a box for every anchor or cell."""

from collections.abc import Sequence
from typing import ClassVar, cast

from torch import Tensor, nn

from samebox.networks.blocks.dense import map_names
from samebox.networks.blocks.nms import GreedyNMS
from samebox.networks.nets.contract import BOXES


class OneStage(nn.Module):
    """Backbone, neck and head; then one NMS over the top (anchor, class) pairs.

    `nms_pre` pairs with scores above `score_threshold` are selected in each level, unless the family states
    otherwise. A family names the maps of a level in `map_parts`; its head has the `strides` of the levels,
    finest first.
    """

    outputs = BOXES
    map_parts: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        bbox_head: nn.Module,
        nms: GreedyNMS,
        nms_pre: int,
        score_threshold: float,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.bbox_head = bbox_head
        self.nms = nms
        self.nms_pre = nms_pre
        self.score_threshold = score_threshold

    @property
    def head_outputs(self) -> tuple[str, ...]:
        """Names of the tensors that `heads` returns: `<part>_<stride>`, finest level first."""
        return map_names(self.map_parts, cast(Sequence[int], self.bbox_head.strides))

    def heads(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] and sizes [B,2] → the head's maps by `head_outputs`."""
        maps = (x for level in self.levels(images, sizes) for x in level)
        return dict(zip(self.head_outputs, maps, strict=True))

    def levels(self, images: Tensor, sizes: Tensor) -> list[tuple[Tensor, ...]]:
        """Normalised images [B,3,H,W] and sizes [B,2] → the head's maps of every level, finest first."""
        return [self.bbox_head(x) for x in self.neck(self.backbone(images))]
