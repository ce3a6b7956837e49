"""Removes attributes that newer opsets introduced if they have their default, the behaviour of older opsets.

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
    """Remove the attributes of `DEFAULTS` that have these values. Returns whether the graph changed."""
    changed = False
    for node in model.graph.all_nodes():
        for name, default in DEFAULTS.get(node.op_type, {}).items():
            if name in node.attributes and node.attributes[name].value == default:
                del node.attributes[name]
                changed = True
    return changed
