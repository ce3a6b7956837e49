"""RetinaNet: Focal Loss for Dense Object Detection (Lin et al., 2017, arXiv:1708.02002).

Parameters are named as in MMDetection: `backbone.*`, `neck.*`, `bbox_head.{cls_convs,reg_convs}.i.conv`,
`bbox_head.retina_{cls,reg}`; those of detectron2 are read as well.
"""

from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from samebox.checkpoints.weights import Rename
from samebox.networks.blocks.anchors import Anchors
from samebox.networks.blocks.boxes import decode_deltas
from samebox.networks.blocks.conv import ConvModule
from samebox.networks.blocks.dense import candidates, map_names
from samebox.networks.blocks.nms import GreedyNMS, clip_and_drop_empty
from samebox.networks.nets.names import BACKBONE, pyramid
from samebox.networks.nets.one_stage import OneStage


class RetinaHead(nn.Module):
    """Two towers of 3x3 convolutions, shared by all levels: class logits and box deltas per anchor.

    `shrink_limit` as in `decode_deltas`.
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
        widths = [in_channels, *[channels] * convs]
        self.cls_convs = nn.ModuleList(ConvModule(i, o, 3) for i, o in pairwise(widths))
        self.reg_convs = nn.ModuleList(ConvModule(i, o, 3) for i, o in pairwise(widths))
        self.retina_cls = nn.Conv2d(channels, anchors.kinds * num_classes, 3, padding=1)
        self.retina_reg = nn.Conv2d(channels, anchors.kinds * 4, 3, padding=1)
        self.num_classes = num_classes
        self.anchors = anchors
        self.shrink_limit = shrink_limit

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B,in_channels,H,W] → logits [B,kinds*num_classes,H,W], deltas [B,kinds*4,H,W]."""
        classes = boxes = x
        for conv in self.cls_convs:
            classes = conv(classes)
        for conv in self.reg_convs:
            boxes = conv(boxes)
        return self.retina_cls(classes), self.retina_reg(boxes)

    def decode(self, anchors: Tensor, deltas: Tensor) -> Tensor:
        """Anchors and their deltas [...,4] → boxes [...,4]."""
        return decode_deltas(anchors, deltas, shrink_limit=self.shrink_limit)


# detectron2: its towers have a ReLU at every other number
RENAMES = (
    *BACKBONE,
    *pyramid(3),
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
    """Backbone, pyramid, head; then the `nms_pre` best pairs of each level, decoded, and one NMS.

    Pairs with a score of at most `score_threshold` are dropped, and so is a box that clipping to its
    image leaves without an area. With `clip_last`, as in detectron2, that is done after the NMS.
    """

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

    @property
    def head_outputs(self) -> tuple[str, ...]:
        """What `heads` gives, by the stride of the level: logits_8, deltas_8, logits_16, …."""
        return map_names(("logits", "deltas"), self.bbox_head.anchors.strides)

    def heads(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] → the head's maps, see RetinaHead.forward."""
        levels = [self.bbox_head(x) for x in self.neck(self.backbone(images))]
        return dict(zip(self.head_outputs, (x for level in levels for x in level), strict=True))

    def forward(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] and sizes [B,2] → the outputs of `samebox.networks.nets.contract`."""
        head, maps = self.bbox_head, list(self.heads(images, sizes).values())
        levels = list(zip(maps[::2], maps[1::2], strict=True))
        pairs = candidates(
            levels,
            head.anchors,
            head.num_classes,
            self.nms_pre,
            self.score_threshold,
            sizes,
            decode=head.decode,
            clipped=not self.clip_last,
        )
        found = self.nms(*pairs)
        if self.clip_last:
            found = clip_and_drop_empty(found, sizes)
        return dict(zip(self.outputs, found, strict=True))
