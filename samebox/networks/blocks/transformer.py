"""Transformer layers (Vaswani et al., 2017, arXiv:1706.03762) as DETR has them: a norm after each part.

Attention is written as matrix products, which every runtime takes: fused operators are not taken alike.
"""

import math

import torch
from torch import Tensor, nn


class Projections(nn.Module):
    """The four linear maps of multi-head attention, under the names that PyTorch gives them."""

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

    def forward(self, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None = None) -> Tensor:
        """query [B,N,C], key and value [B,M,C] → [B,N,C].

        `hidden` [B,M] bool: the keys that nobody sees; of an image one at least has to be seen.
        """
        q, k, v = (self._projected(x, part) for part, x in enumerate((query, key, value)))
        scores = q / math.sqrt(q.shape[3]) @ k.transpose(2, 3)
        if hidden is not None:
            scores = torch.where(hidden[:, None, None], -torch.inf, scores)
        return self.attn.out_proj((scores.softmax(3) @ v).transpose(1, 2).flatten(2))

    def _projected(self, x: Tensor, part: int) -> Tensor:
        """[B,N,C] → [B,heads,N,C/heads], for queries (part 0), keys (1) or values (2)."""
        channels = x.shape[2]
        rows = slice(part * channels, (part + 1) * channels)
        weight, bias = self.attn.in_proj_weight[rows], self.attn.in_proj_bias[rows]
        return nn.functional.linear(x, weight, bias).unflatten(2, (self.heads, -1)).transpose(1, 2)


class FFN(nn.Module):
    """Two linear layers with a ReLU between. Parameters: `layers.0.0`, `layers.1`."""

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        first = nn.Sequential(nn.Linear(channels, hidden_channels), nn.ReLU())
        self.layers = nn.Sequential(first, nn.Linear(hidden_channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """[...,channels] → the same shape."""
        return self.layers(x)


class EncoderLayer(nn.Module):
    """Attention of the cells among themselves, then a feed-forward network."""

    def __init__(self, channels: int, heads: int, hidden_channels: int) -> None:
        super().__init__()
        self.self_attn = Attention(channels, heads)
        self.ffn = FFN(channels, hidden_channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))

    def forward(self, x: Tensor, position: Tensor, hidden: Tensor) -> Tensor:
        """x, position [B,N,C], hidden [B,N] bool, the cells that nobody sees → [B,N,C]."""
        at = x + position
        x = self.norms[0](x + self.self_attn(at, at, x, hidden))
        return self.norms[1](x + self.ffn(x))


class DecoderLayer(nn.Module):
    """Attention of the queries among themselves, then to the cells, then a feed-forward network."""

    def __init__(self, channels: int, heads: int, hidden_channels: int) -> None:
        super().__init__()
        self.self_attn = Attention(channels, heads)
        self.cross_attn = Attention(channels, heads)
        self.ffn = FFN(channels, hidden_channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))

    def forward(
        self, x: Tensor, query_position: Tensor, memory: Tensor, position: Tensor, hidden: Tensor
    ) -> Tensor:
        """x, query_position [B,Q,C]; memory, position [B,N,C] and hidden [B,N] of the cells → [B,Q,C]."""
        at = x + query_position
        x = self.norms[0](x + self.self_attn(at, at, x))
        seen = self.cross_attn(x + query_position, memory + position, memory, hidden)
        x = self.norms[1](x + seen)
        return self.norms[2](x + self.ffn(x))


def valid_counts(extent: int, length: int, sizes: Tensor) -> Tensor:
    """How many of `extent` cells along an axis of `length` pixels start within sizes [B] pixels: [B] int64.

    That is what reducing a full-resolution mask to its nearest pixels keeps.
    """
    cells = torch.arange(extent, device=sizes.device)
    return (cells * length < sizes[:, None] * extent).sum(1)


def sine_positions(extent: int, valid: Tensor, features: int, temperature: float = 10000.0) -> Tensor:
    """The sine encoding of one axis: [B,extent,features], sine and cosine in turn.

    Cells count from 1 to valid [B], over which the whole turn 2π is spread; beyond, the count stands still.
    """
    count = torch.arange(1, extent + 1, device=valid.device)
    count = torch.minimum(count[None], valid[:, None]).to(torch.float32)
    angle = count / (valid[:, None].to(torch.float32) + 1e-6) * (2 * math.pi)
    pair = torch.arange(features // 2, device=valid.device).to(torch.float32)
    phase = angle[..., None] / temperature ** (2 * pair / features)
    return torch.stack([phase.sin(), phase.cos()], dim=3).flatten(2)
