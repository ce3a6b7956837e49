"""What detectors of one stage share."""

from torch import nn

from samebox.networks.blocks.nms import GreedyNMS
from samebox.networks.nets.contract import BOXES


class OneStage(nn.Module):
    """Backbone, neck and head, and what becomes of the head's maps.

    The best `nms_pre` pairs of an anchor and a class whose score exceeds `score_threshold` enter the NMS: of
    each level, unless a family has it otherwise.
    """

    outputs = BOXES

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
