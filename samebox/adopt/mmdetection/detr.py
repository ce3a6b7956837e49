"""MMDetection's DETR. MMDetection 2 configures the transformer in the head, MMDetection 3 in the model."""

from functools import partial
from typing import Any

from samebox.adopt.mmdetection import backbones
from samebox.adopt.mmdetection.head_settings import expect_scores, num_classes
from samebox.adopt.mmdetection.necks import channel_mapper
from samebox.adopt.section import Section

# The parts of a transformer layer, in the order that is supported
_OPERATION_ORDER = {
    "encoder": ("self_attn", "norm", "ffn", "norm"),
    "decoder": ("self_attn", "norm", "cross_attn", "norm", "ffn", "norm"),
}


def detr(model: Section, test: Section) -> tuple[str, dict[str, Any]]:
    """DETR."""
    backbone = backbones.read_backbone(model, backbones.FOR_DETR)
    with model.section("bbox_head") as head:
        head.choice("DETRHead")
        expect_scores(head, sigmoid=False)
        num_classes(head)
        if "transformer" in head:
            network = transformer_of_head(head)
            in_channels = head.integer("in_channels")
        else:
            network = transformer_of_model(model)
            in_channels = channel_mapper(model, network["channels"])
            head.expect("embed_dims", network["channels"], default=256)
            head.ignore("in_channels")
    return "detr", {
        "_target_": "samebox.networks.nets.detr.DETR",
        "backbone": backbone,
        "neck": {"_target_": "samebox.networks.nets.detr.ChannelMapper", "in_channels": in_channels},
        "count": test.integer("max_per_img", network["queries"]),
        **network,
    }


def transformer_of_model(model: Section) -> dict[str, Any]:
    """The transformer and the queries of MMDetection 3, from keys of the model."""
    channels: set[int] = set()
    parts = {}
    for name in ("encoder", "decoder"):
        with model.section(name) as part:
            part.expect("return_intermediate", True)
            part.expect("post_norm_cfg", {"type": "LN"})
            layers = part.integer("num_layers")
            with part.section("layer_cfg") as layer:
                layer.expect("norm_cfg", {"type": "LN"})
                attentions = ("self_attn_cfg", "cross_attn_cfg") if name == "decoder" else ("self_attn_cfg",)
                heads = [layer.read(key, partial(attention_heads, channels=channels)) for key in attentions]
                hidden_channels = layer.read("ffn_cfg", partial(feed_forward, channels=channels))
        parts[name] = transformer_part(name, layers, heads, hidden_channels, model)
    model.read("positional_encoding", partial(positional_encoding, channels=channels))
    queries = model.integer("num_queries", 100)
    return {"channels": single_width(model, channels), "queries": queries, **parts}


def transformer_of_head(head: Section) -> dict[str, Any]:
    """The transformer and the queries of MMDetection 2, from keys of the head."""
    channels: set[int] = set()
    parts = {}
    with head.section("transformer") as transformer:
        transformer.choice("Transformer")
        for name, order in _OPERATION_ORDER.items():
            with transformer.section(name) as part:
                part.choice(f"DetrTransformer{name.capitalize()}")
                part.expect("return_intermediate", True)
                layers = part.integer("num_layers")
                with part.section("transformerlayers") as layer:
                    layer.choice("BaseTransformerLayer", "DetrTransformerDecoderLayer")
                    layer.require("operation_order", order)
                    layer.ignore("ffn_dropout")
                    heads = layer.read_list("attn_cfgs", 1, partial(attention_heads, channels=channels))
                    hidden_channels = layer.integer("feedforward_channels")
            parts[name] = transformer_part(name, layers, heads, hidden_channels, head)
    head.read("positional_encoding", partial(positional_encoding, channels=channels))
    queries = head.integer("num_query", 100)
    return {"channels": single_width(head, channels), "queries": queries, **parts}


def transformer_part(
    name: str, layers: int, heads: list[int], hidden_channels: int, section: Section
) -> dict[str, Any]:
    """The encoder or the decoder. Attentions with different numbers of heads are rejected."""
    if len(set(heads)) != 1:
        section.reject(name, reason=f"attentions with {heads} heads")
    return {
        "_target_": f"samebox.networks.nets.detr.{name.capitalize()}",
        "layers": layers,
        "heads": max(heads, default=0),
        "hidden_channels": hidden_channels,
    }


def attention_heads(attention: Section, channels: set[int]) -> int:
    """The number of heads of an attention. Its channels are added to `channels`."""
    attention.choice("MultiheadAttention", default="MultiheadAttention")
    attention.expect("batch_first", True, False)  # only the layout of the tensors
    attention.ignore("dropout", "attn_drop", "proj_drop")
    channels.add(attention.integer("embed_dims", 256))
    return attention.integer("num_heads", 8)


def feed_forward(ffn: Section, channels: set[int]) -> int:
    """The hidden channels of a feed-forward network. Its channels are added to `channels`."""
    ffn.expect("num_fcs", 2)
    ffn.expect("act_cfg", {"type": "ReLU"})
    ffn.expect("add_identity", True)
    ffn.ignore("ffn_drop", "dropout_layer")
    channels.add(ffn.integer("embed_dims", 256))
    return ffn.integer("feedforward_channels", 1024)


def positional_encoding(encoding: Section, channels: set[int]) -> None:
    """Reject an encoding other than DETR's. It has half of the channels for each axis."""
    encoding.choice("SinePositionalEncoding", default="SinePositionalEncoding")
    encoding.require("normalize", True)
    encoding.expect("temperature", 10000)
    encoding.expect("offset", 0.0)
    channels.add(2 * encoding.integer("num_feats"))


def single_width(section: Section, channels: set[int]) -> int:
    """The number of channels that all parts of the transformer have; different numbers are rejected."""
    if len(channels) != 1:
        section.reject("embed_dims", reason=f"parts with {sorted(channels)} channels")
    return min(channels)
