"""RetinaNet: Focal Loss for Dense Object Detection (Lin et al., 2017, arXiv:1708.02002).

Parameters are named as in MMDetection: `backbone.*`, `neck.*`, `bbox_head.{cls_convs,reg_convs}.i.conv`,
`bbox_head.retina_{cls,reg}`. The names of detectron2 are supported as well.
"""

from typing import ClassVar

from torch import Tensor, nn

from samebox.checkpoints.weights import Rename
from samebox.networks.blocks.anchors import Anchors
from samebox.networks.blocks.boxes import decode_deltas
from samebox.networks.blocks.conv import conv_tower
from samebox.networks.blocks.dense import candidates
from samebox.networks.blocks.nms import GreedyNMS, clip_and_drop_empty
from samebox.networks.nets.names import BACKBONE_RENAMES, fpn_renames
from samebox.networks.nets.one_stage import OneStage


class RetinaHead(nn.Module):
    """Two towers of 3x3 convolutions, shared by all levels: class logits and box deltas of every anchor.

    For `shrink_limit` see `decode_deltas`. In shapes, A is the number of anchors at a cell.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        convs: int,
        num_classes: int,
        anchors: Anchors,
        shrink_limit: bool = True,
    ) -> None:
        super().__init__()
        self.cls_convs = conv_tower(in_channels, channels, convs)
        self.reg_convs = conv_tower(in_channels, channels, convs)
        self.retina_cls = nn.Conv2d(channels, anchors.per_cell * num_classes, 3, padding=1)
        self.retina_reg = nn.Conv2d(channels, anchors.per_cell * 4, 3, padding=1)
        self.num_classes = num_classes
        self.anchors = anchors
        self.strides = anchors.strides
        self.shrink_limit = shrink_limit

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B,in_channels,H,W] → logits [B,A*num_classes,H,W], deltas [B,A*4,H,W]."""
        classes = boxes = x
        for conv in self.cls_convs:
            classes = conv(classes)
        for conv in self.reg_convs:
            boxes = conv(boxes)
        return self.retina_cls(classes), self.retina_reg(boxes)

    def decode(self, anchors: Tensor, deltas: Tensor) -> Tensor:
        """Anchors [...,4] and their deltas [...,4] → boxes [...,4]."""
        return decode_deltas(anchors, deltas, shrink_limit=self.shrink_limit)


# Names of detectron2. Its towers are Sequentials in which every second layer is a ReLU.
RENAMES = (
    *BACKBONE_RENAMES,
    *fpn_renames(3),
    Rename(r"^anchor_generator\.", None),
    *(Rename(rf"^backbone\.top_block\.p{level}\.", f"neck.fpn_convs.{level - 3}.conv.") for level in (6, 7)),
    *(
        Rename(rf"^head\.{tower}_subnet\.{2 * index}\.", f"bbox_head.{ours}_convs.{index}.conv.")
        for tower, ours in (("cls", "cls"), ("bbox", "reg"))
        for index in range(4)
    ),
    Rename(r"^head\.cls_score\.", "bbox_head.retina_cls."),
    Rename(r"^head\.bbox_pred\.", "bbox_head.retina_reg."),
)


class RetinaNet(OneStage):
    """A OneStage with anchors. Boxes that have no area after clipping to their image are dropped.

    Boxes are clipped before the NMS, or after it with `clip_last`, as in detectron2.
    """

    map_parts = ("logits", "deltas")

    bbox_head: RetinaHead
    renames: ClassVar[tuple[Rename, ...]] = RENAMES

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        bbox_head: nn.Module,
        nms: GreedyNMS,
        nms_pre: int,
        score_threshold: float,
        clip_last: bool = False,
    ) -> None:
        super().__init__(backbone, neck, bbox_head, nms, nms_pre, score_threshold)
        self.clip_last = clip_last

    def forward(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] and sizes [B,2] → the outputs, see `samebox.networks.nets.contract`."""
        head = self.bbox_head
        selected = candidates(
            self.levels(images, sizes),
            head.anchors,
            head.num_classes,
            self.nms_pre,
            self.score_threshold,
            sizes,
            decode=head.decode,
            clipped=not self.clip_last,
        )
        detections = self.nms(*selected)
        if self.clip_last:
            detections = clip_and_drop_empty(detections, sizes)
        return dict(zip(self.outputs, detections, strict=True))
