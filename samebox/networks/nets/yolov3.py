"""YOLOv3: An Incremental Improvement (Redmon and Farhadi, 2018, arXiv:1804.02767).

Parameters are named as in MMDetection: `backbone.*`, `neck.{detect1,conv1,detect2,conv2,detect3}`,
`bbox_head.{convs_bridge,convs_pred}.i`. Levels are numbered coarsest first, as there.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samebox.networks.blocks.anchors import SizedAnchors
from samebox.networks.blocks.darknet import conv
from samebox.networks.blocks.dense import at_pairs, best_pairs, map_names, probability
from samebox.networks.blocks.nms import GreedyNMS, gather_rows
from samebox.networks.blocks.topk import stable_topk
from samebox.networks.nets.one_stage import OneStage

# What precedes the classes in an anchor's channels: x, y, width, height, objectness
BOX_CHANNELS = 5


def detection_block(inputs: int, channels: int) -> nn.Sequential:
    """Five convolutions, 1x1 to `channels` and 3x3 to twice as many in turn."""
    block = nn.Sequential()
    for index in range(1, 6):
        narrow = index % 2 == 1
        outputs = channels if narrow else 2 * channels
        block.add_module(f"conv{index}", conv(inputs, outputs, 1 if narrow else 3))
        inputs = outputs
    return block


class YOLOv3Neck(nn.Module):
    """Each level sees its backbone map, and beside it the coarser level enlarged.

    `in_channels` of the backbone's maps and `out_channels` of the levels: coarsest first.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: Sequence[int]) -> None:
        super().__init__()
        self.detect1 = detection_block(in_channels[0], out_channels[0])
        for level in range(1, len(in_channels)):
            own = out_channels[level]
            self.add_module(f"conv{level}", conv(out_channels[level - 1], own, 1))
            self.add_module(f"detect{level + 1}", detection_block(in_channels[level] + own, own))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """[B,C_i,H_i,W_i], finest first → [B,out_channels_i,H_i,W_i], coarsest first."""
        coarsest, *finer = reversed(maps)
        outs = [self.detect1(coarsest)]
        for level, x in enumerate(finer, 1):
            narrowed = self.get_submodule(f"conv{level}")(outs[-1])
            # to the finer level's own size: where the canvas is no multiple of 32 it is not always twice
            enlarged = F.interpolate(narrowed, size=x.shape[2:], mode="nearest")
            outs.append(self.get_submodule(f"detect{level + 1}")(torch.cat([enlarged, x], 1)))
        return outs


class YOLOv3Head(nn.Module):
    """One 3x3 and one 1x1 convolution a level, whose channels are an anchor's box, objectness and classes.

    `in_channels` and `out_channels` of the 3x3 convolutions, and `anchors`: coarsest level first.
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
        self.convs_bridge = nn.ModuleList(conv(inputs, outputs, 3) for inputs, outputs in widths)
        self.convs_pred = nn.ModuleList(
            nn.Conv2d(channels, kinds * (BOX_CHANNELS + num_classes), 1)
            for channels, kinds in zip(out_channels, anchors.kinds, strict=True)
        )
        self.num_classes = num_classes
        self.anchors = anchors

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """[B,in_channels_i,H_i,W_i] → [B,kinds_i*(5+num_classes),H_i,W_i]."""
        convs = zip(self.convs_bridge, self.convs_pred, strict=True)
        return [predict(bridge(x)) for x, (bridge, predict) in zip(maps, convs, strict=True)]


class YOLOv3(OneStage):
    """Backbone, neck, head; then the `nms_pre` best pairs of all levels together, and one NMS.

    An anchor whose objectness is below `objectness_threshold` is dropped. The rest are ranked by the
    probability of the class alone, which has to exceed `score_threshold`; the score that the NMS ranks by
    is that times the objectness. Boxes are not clipped to their image.
    """

    bbox_head: YOLOv3Head

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

    @property
    def head_outputs(self) -> tuple[str, ...]:
        """What `heads` gives, by the stride of the level: predictions_8, predictions_16, …"""
        return map_names(("predictions",), self.bbox_head.anchors.strides[::-1])

    def heads(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] → the head's maps, finest level first, see YOLOv3Head.forward."""
        maps = self.bbox_head(self.neck(self.backbone(images)))
        return dict(zip(self.head_outputs, reversed(maps), strict=True))

    def forward(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] and sizes [B,2] → the outputs of `samebox.networks.nets.contract`."""
        coarsest_first = reversed(list(self.heads(images, sizes).values()))
        found = [self._candidates(level, x) for level, x in enumerate(coarsest_first)]
        boxes, scores, objectness, labels = (torch.cat(level, 1) for level in zip(*found, strict=True))
        scores, index = stable_topk(scores, self.nms_pre)
        ranked = scores * objectness.gather(1, index)
        kept = self.nms(gather_rows(boxes, index), ranked, labels.gather(1, index))
        return dict(zip(self.outputs, kept, strict=True))

    def _candidates(self, level: int, predictions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The best pairs of a level: boxes [B,N,4], and [B,N] class probability, objectness, label."""
        head = self.bbox_head
        by_kind = predictions.unflatten(1, (head.anchors.kinds[level], -1))
        box, logits = by_kind[:, :, :BOX_CHANNELS], by_kind[:, :, BOX_CHANNELS:]
        real = probability(box[:, :, -1:]) >= self.objectness_threshold
        allowed = torch.where(real, logits, -torch.inf)
        pairs = best_pairs(allowed.flatten(1, 2), head.num_classes, self.nms_pre, self.score_threshold)
        own = at_pairs(box.flatten(1, 2), pairs, BOX_CHANNELS)
        priors = head.anchors(level, pairs.cells, pairs.kinds, predictions.shape[3])
        boxes = decode(priors, own[..., :4], head.anchors.strides[level])
        return boxes, pairs.scores, probability(own[..., 4]), pairs.labels


def decode(anchors: Tensor, raw: Tensor, stride: int) -> Tensor:
    """Boxes [...,4] from x, y, width, height [...,4] as the head has them, relative to anchors [...,4].

    The centre stays within a stride's reach of the anchor's own; the size is the anchor's times exp().
    """
    centres = (anchors[..., :2] + anchors[..., 2:]) * 0.5 + (probability(raw[..., :2]) - 0.5) * stride
    halves = (anchors[..., 2:] - anchors[..., :2]) * 0.5 * raw[..., 2:].exp()
    return torch.cat([centres - halves, centres + halves], dim=-1)
