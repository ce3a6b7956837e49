"""DETR: End-to-End Object Detection with Transformers (Carion et al., 2020, arXiv:2005.12872).

Parameters are named as in MMDetection 3: `backbone.*`, `neck.convs.0.conv`,
`encoder.layers.i.{self_attn.attn,ffn,norms}`, `decoder.layers.i.{self_attn,cross_attn,ffn,norms}`,
`decoder.post_norm`, `query_embedding`, `bbox_head.{fc_cls,reg_ffn,fc_reg}`. The names of MMDetection 2 are
supported as well.
"""

from collections import OrderedDict
from typing import ClassVar

import torch
from torch import Tensor, nn

from samebox.checkpoints.weights import Rename
from samebox.networks.blocks.boxes import clip
from samebox.networks.blocks.nms import gather_rows
from samebox.networks.blocks.topk import stable_topk
from samebox.networks.blocks.transformer import DecoderLayer, EncoderLayer, sine_positions, valid_cell_counts
from samebox.networks.nets.contract import BOXES


class Encoder(nn.Module):
    """Encoder layers, without a norm after the last."""

    def __init__(self, layers: int, channels: int, heads: int, hidden_channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(channels, heads, hidden_channels) for _ in range(layers))

    def forward(self, x: Tensor, position: Tensor, padding: Tensor) -> Tensor:
        """As EncoderLayer.forward."""
        for layer in self.layers:
            x = layer(x, position, padding)
        return x


class Decoder(nn.Module):
    """Decoder layers, and a norm after the last."""

    def __init__(self, layers: int, channels: int, heads: int, hidden_channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(channels, heads, hidden_channels) for _ in range(layers))
        self.post_norm = nn.LayerNorm(channels)

    def forward(self, queries: Tensor, memory: Tensor, position: Tensor, padding: Tensor) -> Tensor:
        """Query embeddings [B,Q,C]; memory, position and padding as of DecoderLayer.forward → [B,Q,C]."""
        x = torch.zeros_like(queries)
        for layer in self.layers:
            x = layer(x, queries, memory, position, padding)
        return self.post_norm(x)


class DETRHead(nn.Module):
    """Class logits, with the background last, and the box of each query."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.fc_cls = nn.Linear(channels, num_classes + 1)
        hidden = nn.Sequential(nn.Linear(channels, channels), nn.ReLU())
        self.reg_ffn = nn.Sequential(OrderedDict(layers=nn.Sequential(hidden, nn.Linear(channels, channels))))
        self.relu = nn.ReLU()
        self.fc_reg = nn.Linear(channels, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B,Q,channels] → logits [B,Q,num_classes+1], boxes [B,Q,4]: centre x y, width, height in 0..1."""
        return self.fc_cls(x), self.fc_reg(self.relu(self.reg_ffn(x))).sigmoid()


class ChannelMapper(nn.Module):
    """Projects the backbone's last map to the channels of the transformer. Parameters: `convs.0.conv`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        conv = nn.Conv2d(in_channels, out_channels, 1)
        self.convs = nn.ModuleList([nn.Sequential(OrderedDict(conv=conv))])

    def forward(self, x: Tensor) -> Tensor:
        """[B,in_channels,H,W] → [B,out_channels,H,W]."""
        return self.convs[0](x)


class DETR(nn.Module):
    """Backbone, transformer, head; then the top class of each query, and the `count` top queries.

    Boxes are relative to the size of their image on the canvas, and attention ignores padding cells. So an
    image gives the same results as alone, except for the canvas around it that the backbone reads.
    """

    outputs = BOXES
    head_outputs = ("logits", "boxes")

    # Names of MMDetection 2 and of its first checkpoints → names of MMDetection 3
    renames: ClassVar[tuple[Rename, ...]] = (
        Rename(r"^bbox_head\.input_proj\.", "neck.convs.0.conv."),
        Rename(r"^bbox_head\.query_embedding\.", "query_embedding."),
        Rename(r"^bbox_head\.transformer\.", ""),
        Rename(r"^decoder\.norm\.", "decoder.post_norm."),
        Rename(r"\.multihead_attn\.", ".cross_attn."),
        Rename(r"^((?:en|de)coder\.layers\.\d+)\.attentions\.0\.", r"\1.self_attn."),
        Rename(r"^(decoder\.layers\.\d+)\.attentions\.1\.", r"\1.cross_attn."),
        Rename(r"^((?:en|de)coder\.layers\.\d+)\.ffns\.0\.", r"\1.ffn."),
    )

    def __init__(
        self,
        backbone: nn.Module,
        neck: ChannelMapper,
        encoder: Encoder,
        decoder: Decoder,
        bbox_head: DETRHead,
        channels: int,
        queries: int,
        count: int,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.encoder = encoder
        self.decoder = decoder
        self.bbox_head = bbox_head
        self.query_embedding = nn.Embedding(queries, channels)
        self.count = min(count, queries)

    def heads(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W], sizes [B,2] → logits and boxes, see DETRHead.forward."""
        (x,) = self.backbone(images)
        x = self.neck(x)
        position, padding = self.positions(x, images, sizes)
        memory = self.encoder(x.flatten(2).transpose(1, 2), position, padding)
        queries = self.query_embedding.weight.expand(x.shape[0], -1, -1)
        predictions = self.bbox_head(self.decoder(queries, memory, position, padding))
        return dict(zip(self.head_outputs, predictions, strict=True))

    def positions(self, x: Tensor, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Position encoding [B,H*W,C] of the cells of x [B,C,H,W], and their padding mask [B,H*W] bool."""
        height, width = x.shape[2:]
        rows = valid_cell_counts(height, images.shape[2], sizes[:, 0])
        columns = valid_cell_counts(width, images.shape[3], sizes[:, 1])
        half = x.shape[1] // 2
        down = sine_positions(height, rows, half)[:, :, None].expand(-1, -1, width, -1)
        across = sine_positions(width, columns, half)[:, None].expand(-1, height, -1, -1)
        padding_rows = torch.arange(height, device=x.device) >= rows[:, None]
        padding_columns = torch.arange(width, device=x.device) >= columns[:, None]
        padding = padding_rows[:, :, None] | padding_columns[:, None]
        return torch.cat([down, across], 3).flatten(1, 2), padding.flatten(1)

    def forward(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Normalised images [B,3,H,W] and sizes [B,2] → the outputs, see `samebox.networks.nets.contract`."""
        logits, relative = self.heads(images, sizes).values()
        scores, labels = logits.softmax(2)[..., :-1].max(2)
        scores, order = stable_topk(scores, self.count)
        centres, extents = gather_rows(relative, order).split(2, 2)
        scale = sizes.to(relative.dtype).flip(1)[:, None].repeat(1, 1, 2)  # [B,1,4]: w h w h
        boxes = torch.cat([centres - extents / 2, centres + extents / 2], 2) * scale
        return dict(zip(self.outputs, (clip(boxes, sizes), scores, labels.gather(1, order)), strict=True))
