"""Attributes that newer opsets added: dropped where they say what older ones do anyway.

Resize[antialias=0, keep_aspect_ratio_policy="stretch"]  →  Resize[]
"""

import onnx_ir as ir

DEFAULTS: dict[str, dict[str, int | str]] = {
    "ArgMax": {"select_last_index": 0},
    "ArgMin": {"select_last_index": 0},
    "BatchNormalization": {"training_mode": 0},
    "GatherND": {"batch_dims": 0},
    "Resize": {"antialias": 0, "keep_aspect_ratio_policy": "stretch"},
    "ScatterElements": {"reduction": "none"},
    "ScatterND": {"reduction": "none"},
}


def rewrite(model: ir.Model) -> bool:
    """Drop the newer attributes of every operator that hold their defaults."""
    changed = False
    for node in model.graph.all_nodes():
        for name, default in DEFAULTS.get(node.op_type, {}).items():
            if name in node.attributes and node.attributes[name].value == default:
                del node.attributes[name]
                changed = True
    return changed
