"""FSAF: Feature Selective Anchor-Free Module (Zhu et al., 2019, arXiv:1903.00621), its anchor-free branch.

It is a RetinaNet with another head, and calls the distances deltas among its outputs.

Parameters are named as in MMDetection, which are RetinaNet's: `backbone.*`, `neck.*`,
`bbox_head.{cls_convs,reg_convs}.i.conv`, `bbox_head.retina_{cls,reg}`.
"""

from torch import Tensor

from samebox.networks.blocks.anchors import Anchors
from samebox.networks.blocks.boxes import decode_tblr
from samebox.networks.nets.retinanet import RetinaHead


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

    def decode(self, anchors: Tensor, deltas: Tensor) -> Tensor:
        """Anchors and the distances from their centres [...,4] → boxes [...,4]."""
        return decode_tblr(anchors, deltas, self.normalizer)
