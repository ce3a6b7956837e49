"""FSAF: Feature Selective Anchor-Free Module (Zhu et al., 2019, arXiv:1903.00621), its anchor-free branch.

Parameters are named as in MMDetection, which are RetinaNet's: `backbone.*`, `neck.*`,
`bbox_head.{cls_convs,reg_convs}.i.conv`, `bbox_head.retina_{cls,reg}`.
"""

from functools import partial

from torch import Tensor

from samebox.blocks.anchors import Anchors
from samebox.blocks.boxes import decode_tblr
from samebox.blocks.dense import candidates
from samebox.nets.retinanet import RetinaHead, RetinaNet


class FSAFHead(RetinaHead):
    """RetinaNet's, with the distances of a box's sides from its cell's anchor in place of deltas.

    `normalizer`: the unit of distances, in heights and widths of the anchor.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        convs: int,
        num_classes: int,
        anchors: Anchors,
        normalizer: float,
    ) -> None:
        super().__init__(in_channels, channels, convs, num_classes, anchors)
        self.normalizer = normalizer

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B,in_channels,H,W] → logits [B,kinds*num_classes,H,W], distances [B,kinds*4,H,W] from 0 up.

        Distances are of top, bottom, left and right from the anchor's centre, see the class for their unit.
        """
        logits, distances = super().forward(x)
        return logits, distances.relu()


class FSAF(RetinaNet):
    """RetinaNet with an FSAFHead; its `heads` call the distances deltas."""

    bbox_head: FSAFHead

    def forward(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] and sizes [B,2] → the outputs of `samebox.nets.contract`."""
        head, maps = self.bbox_head, list(self.heads(images, sizes).values())
        found = candidates(
            list(zip(maps[::2], maps[1::2], strict=True)),
            head.anchors,
            head.num_classes,
            self.nms_pre,
            self.score_threshold,
            sizes,
            decode=partial(decode_tblr, normalizer=head.normalizer),
        )
        return dict(zip(self.outputs, self.nms(*found), strict=True))
