"""Keypoint head of Mask R-CNN (He et al., 2017, arXiv:1703.06870, section 5): a heatmap per box and keypoint.

Parameters: those of `rcnn`, and `roi_head.keypoint_head.{convs.i.conv,score_lowres}`.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from samebox.checkpoints.weights import Rename
from samebox.networks.blocks.conv import conv_tower
from samebox.networks.blocks.roi_align import RoIAlign
from samebox.networks.nets.names import numbered_renames


class KeypointHead(nn.Module):
    """A heatmap of each keypoint of a box: 3x3 convolutions on its RoIAlign crop, upsampling by 4.

    In shapes, P is the number of keypoints and S the side of a crop.
    """

    def __init__(
        self, roi_align: RoIAlign, in_channels: int, channels: int, convs: int, num_keypoints: int
    ) -> None:
        super().__init__()
        self.roi_align = roi_align
        self.convs = conv_tower(in_channels, channels, convs)
        self.score_lowres = nn.ConvTranspose2d(channels, num_keypoints, 4, stride=2, padding=1)

    def forward(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Pyramid, finest first, boxes [B,K,4] → logits [B,K,P,4S,4S]."""
        return self.predict(self.roi_align(maps, boxes).flatten(0, 1)).unflatten(0, boxes.shape[:2])

    def predict(self, crops: Tensor) -> Tensor:
        """[R,in_channels,S,S] → logits [R,P,4S,4S]."""
        for conv in self.convs:
            crops = conv(crops)
        logits = self.score_lowres(crops)
        return F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)


# Names of detectron2, maskrcnn-benchmark and Detectron. The last stores its bilinear upsampling as a layer.
RENAMES = (
    *numbered_renames(
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
