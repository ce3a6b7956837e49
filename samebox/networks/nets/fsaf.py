"""The anchor-free branch of FSAF: Feature Selective Anchor-Free Module (Zhu et al., 2019, arXiv:1903.00621).

The network is a RetinaNet with the head of this module; its head outputs call the distances deltas.
Parameters are named as in MMDetection, where they are RetinaNet's: `backbone.*`, `neck.*`,
`bbox_head.{cls_convs,reg_convs}.i.conv`, `bbox_head.retina_{cls,reg}`.
"""

from torch import Tensor

from samebox.networks.blocks.anchors import Anchors
from samebox.networks.blocks.boxes import decode_tblr
from samebox.networks.nets.retinanet import RetinaHead


class FSAFHead(RetinaHead):
    """RetinaNet's head with the distances of a box's sides to the centre of its cell's anchor as deltas.

    Distances are in units of `normalizer` times the anchor's height (top, bottom) or width (left, right).
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
        """[B,in_channels,H,W] → logits [B,A*num_classes,H,W], distances [B,A*4,H,W], at least 0.

        The order of distances is top, bottom, left, right; for their unit see the class.
        """
        logits, distances = super().forward(x)
        return logits, distances.relu()

    def decode(self, anchors: Tensor, deltas: Tensor) -> Tensor:
        """Anchors [...,4] and distances [...,4] → boxes [...,4]."""
        return decode_tblr(anchors, deltas, self.normalizer)
