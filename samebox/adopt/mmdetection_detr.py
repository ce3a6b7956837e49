"""MMDetection's DETR: its transformer is part of the head, or from the third generation on of the model."""

from typing import Any

from samebox.adopt import mmdetection_parts as parts
from samebox.adopt.section import Section


def detr(model: Section, test: Section) -> tuple[str, dict[str, Any]]:
    """DETR."""
    backbone = parts.built(model, "backbone", parts.resnet)
    with model.section("bbox_head") as head:
        head.kind("DETRHead")
        parts.scored_by(head, False)
        parts.classes(head)
        if "transformer" in head:
            network = second_generation_transformer(head)
        else:
            network = third_generation_transformer(model)
            network["neck"] = {
                "_target_": "samebox.networks.nets.detr.ChannelMapper",
                "in_channels": channel_mapper(model, network["channels"]),
            }
            head.only("embed_dims", network["channels"], default=256)
            head.skip("in_channels")
    return "detr", {
        "_target_": "samebox.networks.nets.detr.DETR",
        "backbone": backbone,
        "count": test.whole("max_per_img", network["queries"]),
        **network,
    }


def third_generation_transformer(model: Section) -> dict[str, Any]:
    """The encoder, the decoder and the queries, as keys of the model."""
    widths: set[int] = set()
    built = {}
    for name in ("encoder", "decoder"):
        with model.section(name) as part:
            part.only("return_intermediate", True)
            part.only("post_norm_cfg", {"type": "LN"})
            layers = part.whole("num_layers")
            with part.section("layer_cfg") as layer:
                layer.only("norm_cfg", {"type": "LN"})
                attentions = ("self_attn_cfg", "cross_attn_cfg") if name == "decoder" else ("self_attn_cfg",)
                heads = [attention(layer.section(key), widths) for key in attentions]
                hidden = feed_forward(layer, widths)
        built[name] = transformer_part(name, layers, heads, hidden, model)
    positions(model, widths)
    return {"channels": width(model, widths), "queries": model.whole("num_queries", 100), **built}


def second_generation_transformer(head: Section) -> dict[str, Any]:
    """The same as keys of the head, and its projection of the backbone's map."""
    widths: set[int] = set()
    built = {}
    orders = {
        "encoder": ("self_attn", "norm", "ffn", "norm"),
        "decoder": ("self_attn", "norm", "cross_attn", "norm", "ffn", "norm"),
    }
    with head.section("transformer") as transformer:
        transformer.kind("Transformer")
        for name, order in orders.items():
            with transformer.section(name) as part:
                part.kind(f"DetrTransformer{name.capitalize()}")
                part.only("return_intermediate", True)
                layers = part.whole("num_layers")
                with part.section("transformerlayers") as layer:
                    layer.kind("BaseTransformerLayer", "DetrTransformerDecoderLayer")
                    layer.given("operation_order", order)
                    layer.skip("ffn_dropout")
                    heads = [attention(one, widths) for one in layer.sections("attn_cfgs", 1)]
                    hidden = layer.whole("feedforward_channels")
            built[name] = transformer_part(name, layers, heads, hidden, head)
    positions(head, widths)
    neck = {"_target_": "samebox.networks.nets.detr.ChannelMapper", "in_channels": head.whole("in_channels")}
    queries = head.whole("num_query", 100)
    return {"channels": width(head, widths), "queries": queries, "neck": neck, **built}


def transformer_part(
    name: str, layers: int, heads: list[int], hidden: int, section: Section
) -> dict[str, Any]:
    """An encoder or a decoder, whose attentions all have as many heads."""
    if len(set(heads)) != 1:
        section.unsupported(f"{name}: attentions with {heads} heads")
    target = f"samebox.networks.nets.detr.{name.capitalize()}"
    return {"_target_": target, "layers": layers, "heads": max(heads, default=0), "hidden_channels": hidden}


def attention(section: Section, widths: set[int]) -> int:
    """The heads of an attention; its width goes to `widths`."""
    with section as held:
        held.kind("MultiheadAttention", default="MultiheadAttention")
        held.only("batch_first", True, False)  # the layout of tensors, not what is computed
        held.skip("dropout", "attn_drop", "proj_drop")
        widths.add(held.whole("embed_dims", 256))
        return held.whole("num_heads", 8)


def feed_forward(layer: Section, widths: set[int]) -> int:
    """The hidden width of a layer's feed-forward network."""
    with layer.section("ffn_cfg") as ffn:
        ffn.only("num_fcs", 2)
        ffn.only("act_cfg", {"type": "ReLU"})
        ffn.only("add_identity", True)
        ffn.skip("ffn_drop", "dropout_layer")
        widths.add(ffn.whole("embed_dims", 256))
        return ffn.whole("feedforward_channels", 1024)


def positions(holder: Section, widths: set[int]) -> None:
    """The sine encoding of positions: half the width for either axis."""
    with holder.section("positional_encoding") as encoding:
        encoding.kind("SinePositionalEncoding", default="SinePositionalEncoding")
        encoding.given("normalize", True)
        encoding.only("temperature", 10000)
        encoding.only("offset", 0.0)
        widths.add(2 * encoding.whole("num_feats"))


def width(section: Section, widths: set[int]) -> int:
    """The one width that all parts of a transformer have."""
    if len(widths) != 1:
        section.unsupported(f"embed_dims: parts with {sorted(widths)}")
    return min(widths)


def channel_mapper(model: Section, channels: int) -> int:
    """The channels of the backbone's map that a ChannelMapper narrows to `channels`."""
    with model.section("neck") as neck:
        neck.kind("ChannelMapper")
        neck.given("kernel_size", 1)
        for name in ("norm_cfg", "act_cfg", "conv_cfg"):
            neck.only(name, None)
        neck.only("num_outs", 1, None)
        neck.only("out_channels", channels, default=256)
        inputs = neck.wholes("in_channels")
        if len(inputs) != 1:
            neck.unsupported("in_channels", inputs)
        return inputs[0] if inputs else 0
