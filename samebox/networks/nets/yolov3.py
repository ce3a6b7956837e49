"""YOLOv3: An Incremental Improvement (Redmon and Farhadi, 2018, arXiv:1804.02767).

Parameters are named as in MMDetection: `backbone.*`, `neck.{detect1,conv1,detect2,conv2,detect3}`,
`bbox_head.{convs_bridge,convs_pred}.i`. As there, the levels of neck and head are ordered coarsest first.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samebox.networks.blocks.anchors import SizedAnchors
from samebox.networks.blocks.darknet import conv_bn_leaky
from samebox.networks.blocks.dense import gather_at_pairs, probability, top_pairs
from samebox.networks.blocks.nms import GreedyNMS, gather_rows
from samebox.networks.blocks.topk import stable_topk
from samebox.networks.nets.one_stage import OneStage

# An anchor's channels before those of the classes: x, y, width, height, objectness
BOX_CHANNELS = 5


def detection_block(inputs: int, channels: int) -> nn.Sequential:
    """Five convolutions, alternating 1x1 to `channels` and 3x3 to twice as many channels."""
    block = nn.Sequential()
    for index in range(1, 6):
        narrow = index % 2 == 1
        outputs = channels if narrow else 2 * channels
        block.add_module(f"conv{index}", conv_bn_leaky(inputs, outputs, 1 if narrow else 3))
        inputs = outputs
    return block


class YOLOv3Neck(nn.Module):
    """Computes each level from its backbone map concatenated with the coarser level, upsampled.

    `in_channels` of the backbone's maps and `out_channels` of the levels: coarsest first.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: Sequence[int]) -> None:
        super().__init__()
        self.detect1 = detection_block(in_channels[0], out_channels[0])
        for level in range(1, len(in_channels)):
            own = out_channels[level]
            self.add_module(f"conv{level}", conv_bn_leaky(out_channels[level - 1], own, 1))
            self.add_module(f"detect{level + 1}", detection_block(in_channels[level] + own, own))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """[B,C_i,H_i,W_i], finest first → [B,out_channels_i,H_i,W_i], coarsest first."""
        coarsest, *finer = reversed(maps)
        outs = [self.detect1(coarsest)]
        for level, x in enumerate(finer, 1):
            narrowed = self.get_submodule(f"conv{level}")(outs[-1])
            # the sides of x are not always twice those of the coarser level if the canvas is no multiple of
            # 32
            upsampled = F.interpolate(narrowed, size=x.shape[2:], mode="nearest")
            outs.append(self.get_submodule(f"detect{level + 1}")(torch.cat([upsampled, x], 1)))
        return outs


class YOLOv3Head(nn.Module):
    """A 3x3 and a 1x1 convolution per level that predict box, objectness and class logits of every anchor.

    `in_channels` and `out_channels` of the 3x3 convolutions, and `anchors`: coarsest level first. In shapes,
    A_i is the number of anchors at a cell of level i.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        num_classes: int,
        anchors: SizedAnchors,
    ) -> None:
        super().__init__()
        widths = zip(in_channels, out_channels, strict=True)
        self.convs_bridge = nn.ModuleList(conv_bn_leaky(inputs, outputs, 3) for inputs, outputs in widths)
        self.convs_pred = nn.ModuleList(
            nn.Conv2d(channels, per_cell * (BOX_CHANNELS + num_classes), 1)
            for channels, per_cell in zip(out_channels, anchors.per_cell, strict=True)
        )
        self.num_classes = num_classes
        self.anchors = anchors
        self.strides = anchors.strides[::-1]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """[B,in_channels_i,H_i,W_i] → [B,A_i*(5+num_classes),H_i,W_i], both coarsest first."""
        convs = zip(self.convs_bridge, self.convs_pred, strict=True)
        return [predict(bridge(x)) for x, (bridge, predict) in zip(maps, convs, strict=True)]


class YOLOv3(OneStage):
    """A OneStage with anchors and objectness, which selects `nms_pre` pairs from all levels together.

    Anchors with an objectness below `objectness_threshold` are dropped. Pairs of the others are selected by
    the probability of the class, which must exceed `score_threshold`. The NMS ranks by, and the output score
    is, that probability times the objectness. Boxes are not clipped to their image.
    """

    bbox_head: YOLOv3Head
    map_parts = ("predictions",)

    def __init__(
        self,
        backbone: nn.Module,
        neck: YOLOv3Neck,
        bbox_head: YOLOv3Head,
        nms: GreedyNMS,
        nms_pre: int,
        score_threshold: float,
        objectness_threshold: float,
    ) -> None:
        super().__init__(backbone, neck, bbox_head, nms, nms_pre, score_threshold)
        self.objectness_threshold = objectness_threshold

    def levels(self, images: Tensor, sizes: Tensor) -> list[tuple[Tensor, ...]]:
        """As OneStage.levels, finest first; see YOLOv3Head.forward."""
        maps = self.bbox_head(self.neck(self.backbone(images)))
        return [(x,) for x in reversed(maps)]

    def forward(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] and sizes [B,2] → the outputs, see `samebox.networks.nets.contract`."""
        coarsest_first = reversed(self.levels(images, sizes))
        levels = [self._candidates(level, x) for level, (x,) in enumerate(coarsest_first)]
        boxes, scores, objectness, labels = (torch.cat(field, 1) for field in zip(*levels, strict=True))
        scores, index = stable_topk(scores, self.nms_pre)
        scores = scores * objectness.gather(1, index)
        detections = self.nms(gather_rows(boxes, index), scores, labels.gather(1, index))
        return dict(zip(self.outputs, detections, strict=True))

    def _candidates(self, level: int, predictions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The top pairs of a level: boxes [B,N,4]; class probabilities, objectness and labels [B,N]."""
        head = self.bbox_head
        by_anchor = predictions.unflatten(1, (head.anchors.per_cell[level], -1))
        box, logits = by_anchor[:, :, :BOX_CHANNELS], by_anchor[:, :, BOX_CHANNELS:]
        is_object = probability(box[:, :, -1:]) >= self.objectness_threshold
        logits = torch.where(is_object, logits, -torch.inf)
        pairs = top_pairs(logits.flatten(1, 2), head.num_classes, self.nms_pre, self.score_threshold)
        raw = gather_at_pairs(box.flatten(1, 2), pairs, BOX_CHANNELS)
        priors = head.anchors(level, pairs.cells, pairs.indices, predictions.shape[3])
        boxes = decode(priors, raw[..., :4], head.anchors.strides[level])
        return boxes, pairs.scores, probability(raw[..., 4]), pairs.labels


def decode(anchors: Tensor, raw: Tensor, stride: int) -> Tensor:
    """Boxes [...,4] from anchors [...,4] and the head's raw x, y, width, height [...,4].

    The centre lies within half a `stride` of the anchor's centre; width and height are the anchor's times
    exp().
    """
    centres = (anchors[..., :2] + anchors[..., 2:]) * 0.5 + (probability(raw[..., :2]) - 0.5) * stride
    halves = (anchors[..., 2:] - anchors[..., :2]) * 0.5 * raw[..., 2:].exp()
    return torch.cat([centres - halves, centres + halves], dim=-1)
