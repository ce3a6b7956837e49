import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from samebox.networks.blocks.transformer import (
    Attention,
    DecoderLayer,
    EncoderLayer,
    sine_positions,
    valid_cell_counts,
)

CHANNELS, HEADS = 16, 4


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def pytorch_attention(attention):
    """nn.MultiheadAttention with the same weights."""
    module = nn.MultiheadAttention(CHANNELS, HEADS, batch_first=True)
    module.load_state_dict(attention.attn.state_dict())
    return module.eval()


@pytest.mark.parametrize("masks_keys", [False, True])
def test_attention_is_that_of_pytorch(masks_keys):
    attention = Attention(CHANNELS, HEADS)
    nn.init.normal_(attention.attn.in_proj_bias)
    query, key, value = torch.randn(2, 3, CHANNELS), torch.randn(2, 5, CHANNELS), torch.randn(2, 5, CHANNELS)
    padding = torch.tensor([[0, 0, 1, 0, 1], [0, 1, 1, 1, 1]]).bool() if masks_keys else None
    expected, _ = pytorch_attention(attention)(query, key, value, key_padding_mask=padding)
    torch.testing.assert_close(attention(query, key, value, padding), expected)


def test_an_encoder_layer_adds_the_position_only_to_queries_and_keys():
    layer = EncoderLayer(CHANNELS, HEADS, 32)
    x, position = torch.randn(1, 5, CHANNELS), torch.randn(1, 5, CHANNELS)
    padding = torch.tensor([[False, False, False, True, True]])
    attended, _ = pytorch_attention(layer.self_attn)(x + position, x + position, x, key_padding_mask=padding)
    x1 = layer.norms[0](x + attended)
    expected = layer.norms[1](x1 + layer.ffn.layers(x1))
    torch.testing.assert_close(layer(x, position, padding), expected)


def test_a_decoder_layer_is_that_of_pytorch():
    layer = DecoderLayer(CHANNELS, HEADS, 32)
    pytorch = nn.TransformerDecoderLayer(CHANNELS, HEADS, 32, batch_first=True).eval()
    parts = {
        "self_attn": layer.self_attn.attn,
        "multihead_attn": layer.cross_attn.attn,
        "linear1": layer.ffn.layers[0][0],
        "linear2": layer.ffn.layers[1],
        **{f"norm{i + 1}": norm for i, norm in enumerate(layer.norms)},
    }
    for name, part in parts.items():
        getattr(pytorch, name).load_state_dict(part.state_dict())
    x, memory, no_position = torch.randn(2, 3, CHANNELS), torch.randn(2, 7, CHANNELS), torch.zeros(())
    padding = torch.arange(7) >= torch.tensor([[7], [4]])
    expected = pytorch(x, memory, memory_key_padding_mask=padding)
    torch.testing.assert_close(layer(x, no_position, memory, no_position, padding), expected)


@pytest.mark.parametrize(("extent", "length"), [(25, 800), (34, 1067), (38, 1202), (7, 7)])
def test_valid_cells_are_those_of_a_mask_reduced_by_nearest_interpolation(extent, length):
    for size in range(1, length + 1):
        mask = (torch.arange(length) < size).to(torch.float32)[None, None]
        reduced = F.interpolate(mask, size=extent, mode="nearest")
        assert valid_cell_counts(extent, length, torch.tensor([size])).item() == reduced.sum()


def test_sine_positions_are_those_of_the_formula():
    valid, features = torch.tensor([3, 5]), 6
    encoding = sine_positions(5, valid, features)
    for image, cells in enumerate(valid.tolist()):
        for cell in range(5):
            angle = min(cell + 1, cells) / (cells + 1e-6) * 2 * math.pi
            for feature in range(features):
                phase = angle / 10000 ** (2 * (feature // 2) / features)
                expected = math.cos(phase) if feature % 2 else math.sin(phase)
                assert encoding[image, cell, feature].item() == pytest.approx(expected, abs=1e-6)
