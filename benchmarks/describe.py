"""Write the configs of the networks of `benchmarks.gpu`, which runs without Hydra, to a JSON file.

python -m benchmarks.describe
"""

from typing import Any

from omegaconf import OmegaConf

from benchmarks.networks import DESCRIBED
from samebox.core.files import write_json
from stages.compose import compose, plain

DETECTORS = ("retinanet_r50_fpn", "mask_rcnn_r50_fpn")


def description(detector: str) -> dict[str, Any]:
    """The network, its classes and its rules in `conf/detector/<detector>.yaml`, every reference resolved.

    Raises SameboxError for a detector that `conf/` does not have.
    """
    config = compose("export", [f"detector={detector}"])
    names = plain(config.dataset.class_names)
    OmegaConf.update(config.detector, "num_classes", len(names))
    parts = ("name", "network", "normalize", "preprocess")
    return {"class_names": names} | {part: plain(config.detector)[part] for part in parts}


def descriptions() -> dict[str, Any]:
    """Everything that `benchmarks.gpu` uses from `conf/`."""
    config = compose("chain")
    rule = {name: plain(config.precision[name]) for name in ("products", "between", "keep")}
    step = {name: config.export[name] for name in ("opset", "lowering")}
    networks = {detector: description(detector) for detector in DETECTORS}
    return {
        "networks": networks,
        "export": step,
        "shapes": plain(config.simplify.shapes),
        "rule": rule,
        "workspace_mb": config.engine.workspace_mb,
    }


if __name__ == "__main__":
    write_json(DESCRIBED, descriptions())
