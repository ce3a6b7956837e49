"""Attributes of Resize that opset 18 added: dropped where they say what 13 does anyway.

Resize[antialias=0, keep_aspect_ratio_policy="stretch"]  →  Resize[]
"""

import onnx_ir as ir

DEFAULTS = {"antialias": 0, "keep_aspect_ratio_policy": "stretch"}


def rewrite(model: ir.Model) -> bool:
    """Drop the newer attributes of every Resize that hold their defaults."""
    changed = False
    for node in model.graph.all_nodes():
        if node.op_type != "Resize":
            continue
        for name, default in DEFAULTS.items():
            if name in node.attributes and node.attributes[name].value == default:
                del node.attributes[name]
                changed = True
    return changed
