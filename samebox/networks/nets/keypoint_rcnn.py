"""Keypoints in Mask R-CNN (He et al., 2017, arXiv:1703.06870, section 5): a heatmap of each over each box.

Parameters: those of R-CNN, and `roi_head.keypoint_head.{convs.i.conv,score_lowres}`.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from samebox.checkpoints.weights import Rename
from samebox.networks.blocks.conv import ConvModule
from samebox.networks.blocks.roi_align import RoIAlign
from samebox.networks.nets.names import counted


class KeypointHead(nn.Module):
    """Where each keypoint of a box lies: 3x3 convolutions on its crop, enlarged fourfold."""

    def __init__(
        self, roi_align: RoIAlign, in_channels: int, channels: int, convs: int, num_keypoints: int
    ) -> None:
        super().__init__()
        self.roi_align = roi_align
        widths = [in_channels, *[channels] * convs]
        self.convs = nn.ModuleList(ConvModule(i, o, 3) for i, o in pairwise(widths))
        self.score_lowres = nn.ConvTranspose2d(channels, num_keypoints, 4, stride=2, padding=1)

    def forward(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Pyramid, finest first, boxes [B,K,4] → logits [B,K,P,4S,4S], S being the side of a crop."""
        return self.predict(self.roi_align(maps, boxes).flatten(0, 1)).unflatten(0, boxes.shape[:2])

    def predict(self, crops: Tensor) -> Tensor:
        """[R,in_channels,S,S] → logits [R,P,4S,4S]."""
        for conv in self.convs:
            crops = conv(crops)
        logits = self.score_lowres(crops)
        return F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)


# detectron2, maskrcnn-benchmark and Detectron, in whose files the bilinear enlargement is a layer of its own
RENAMES = (
    *counted(
        r"^(roi_heads\.keypoint_head\.|roi_heads\.keypoint\.feature_extractor\.|)conv_fcn#\.",
        "roi_head.keypoint_head.convs.#.conv.",
        1,
        8,
    ),
    Rename(
        r"^(roi_heads\.keypoint_head\.|roi_heads\.keypoint\.predictor\.kps_|kps_)score_lowres\.",
        "roi_head.keypoint_head.score_lowres.",
    ),
    Rename(r"^kps_score\.", None),
)
