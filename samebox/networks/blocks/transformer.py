"""Transformer layers (Vaswani et al., 2017, arXiv:1706.03762) in DETR's variant: a norm after each sublayer.

Attention is written as matrix products, which every runtime supports; support for fused operators differs.
"""

import math

import torch
from torch import Tensor, nn


class Projections(nn.Module):
    """The four linear layers of multi-head attention, with PyTorch's parameter names."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)


class Attention(nn.Module):
    """Multi-head attention. Parameters: `attn.{in_proj_weight,in_proj_bias,out_proj.*}`."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attn = Projections(channels)
        self.heads = heads

    def forward(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None = None) -> Tensor:
        """query [B,N,C], key and value [B,M,C] → [B,N,C].

        `padding` [B,M] bool: keys to ignore; every image needs at least one other key.
        """
        q, k, v = (self._projected(x, part) for part, x in enumerate((query, key, value)))
        scores = q / math.sqrt(q.shape[3]) @ k.transpose(2, 3)
        if padding is not None:
            scores = torch.where(padding[:, None, None], -torch.inf, scores)
        return self.attn.out_proj((scores.softmax(3) @ v).transpose(1, 2).flatten(2))

    def _projected(self, x: Tensor, part: int) -> Tensor:
        """[B,N,C] → [B,heads,N,C/heads], by the weights of queries (part 0), keys (1) or values (2)."""
        channels = x.shape[2]
        rows = slice(part * channels, (part + 1) * channels)
        weight, bias = self.attn.in_proj_weight[rows], self.attn.in_proj_bias[rows]
        return nn.functional.linear(x, weight, bias).unflatten(2, (self.heads, -1)).transpose(1, 2)


class FFN(nn.Module):
    """Feed-forward network: two linear layers with a ReLU between. Parameters: `layers.0.0`, `layers.1`."""

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        first = nn.Sequential(nn.Linear(channels, hidden_channels), nn.ReLU())
        self.layers = nn.Sequential(first, nn.Linear(hidden_channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """[...,channels] → the same shape."""
        return self.layers(x)


class EncoderLayer(nn.Module):
    """Self-attention of the cells, then a feed-forward network."""

    def __init__(self, channels: int, heads: int, hidden_channels: int) -> None:
        super().__init__()
        self.self_attn = Attention(channels, heads)
        self.ffn = FFN(channels, hidden_channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))

    def forward(self, x: Tensor, position: Tensor, padding: Tensor) -> Tensor:
        """x and position encoding [B,N,C], padding [B,N] bool: cells to ignore as keys → [B,N,C]."""
        positioned = x + position
        x = self.norms[0](x + self.self_attn(positioned, positioned, x, padding))
        return self.norms[1](x + self.ffn(x))


class DecoderLayer(nn.Module):
    """Self-attention of the queries, cross-attention to the cells, then a feed-forward network."""

    def __init__(self, channels: int, heads: int, hidden_channels: int) -> None:
        super().__init__()
        self.self_attn = Attention(channels, heads)
        self.cross_attn = Attention(channels, heads)
        self.ffn = FFN(channels, hidden_channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))

    def forward(
        self, x: Tensor, query_position: Tensor, memory: Tensor, position: Tensor, padding: Tensor
    ) -> Tensor:
        """x, query_position [B,Q,C]; memory, position [B,N,C] and padding [B,N] of the cells → [B,Q,C]."""
        positioned = x + query_position
        x = self.norms[0](x + self.self_attn(positioned, positioned, x))
        attended = self.cross_attn(x + query_position, memory + position, memory, padding)
        x = self.norms[1](x + attended)
        return self.norms[2](x + self.ffn(x))


def valid_cell_counts(extent: int, length: int, sizes: Tensor) -> Tensor:
    """How many of `extent` cells along an axis of `length` pixels start within the image: [B] int64.

    sizes [B]: height or width of the images in pixels. The result equals that of a full-resolution mask
    reduced by nearest-neighbour interpolation, as in the original.
    """
    cells = torch.arange(extent, device=sizes.device)
    return (cells * length < sizes[:, None] * extent).sum(1)


def sine_positions(extent: int, valid: Tensor, features: int, temperature: float = 10000.0) -> Tensor:
    """The sine position encoding of one axis: [B,extent,features], sine and cosine alternating.

    valid [B]: number of cells that belong to the image. They are numbered from 1 and scaled to 2π; padding
    cells have the number of the last valid cell.
    """
    number = torch.arange(1, extent + 1, device=valid.device)
    number = torch.minimum(number[None], valid[:, None]).to(torch.float32)
    angle = number / (valid[:, None].to(torch.float32) + 1e-6) * (2 * math.pi)
    pair = torch.arange(features // 2, device=valid.device).to(torch.float32)
    phase = angle[..., None] / temperature ** (2 * pair / features)
    return torch.stack([phase.sin(), phase.cos()], dim=3).flatten(2)
