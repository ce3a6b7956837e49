"""Networks with random weights, from resolved configs in a JSON file, without Hydra."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from samebox.checkpoints.unpickle import read_checkpoint
from samebox.networks.construct import build, load_network
from samebox.networks.nets.contract import Deployable, Normalize
from samebox.record.preprocess import Batch, Image, Preprocess
from samebox.record.spec import Spec

# Written by `benchmarks.describe` from conf/
DESCRIBED = Path(__file__).parent / "networks.json"


def described() -> dict[str, Any]:
    """The networks by name, and the rule of precisions, from `conf/`."""
    return json.loads(DESCRIBED.read_text(encoding="utf-8"))


def network_of(description: Mapping[str, Any], checkpoint: Path | None = None) -> tuple[Deployable, Spec]:
    """The network of a description and its record, with the weights of `checkpoint` or random ones.

    Random weights are drawn from seed 0. Raises SameboxError if the checkpoint belongs to another network.
    """
    class_names = tuple(description["class_names"])
    preprocess = Preprocess.from_dict(description["preprocess"])
    if checkpoint is not None:
        loaded = load_network(description, read_checkpoint(checkpoint), class_names, preprocess)
        return loaded.network, loaded.spec
    torch.manual_seed(0)
    network, normalize = build(description["network"]), description["normalize"]
    draw(network)
    sha256 = "random weights, seed 0"
    spec = Spec(description["name"], class_names, preprocess, normalize, checkpoint_sha256=sha256)
    return Deployable(Normalize(**normalize), network).eval(), spec


def draw(network: nn.Module) -> None:
    """Draw weights that keep the scale of maps from layer to layer, and boxes near their anchors."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm2d):  # otherwise each block doubles its input
            nn.init.constant_(module.weight, 0.5)
        if name.endswith("_reg"):  # the layers of box deltas; every family names them so
            nn.init.normal_(cast(Tensor, module.weight), std=1e-3)


def filling(image: Image, canvas: tuple[int, int]) -> Batch:
    """A batch of one image, stretched over the whole canvas (height, width)."""
    pixels = cv2.resize(image, canvas[::-1]).transpose(2, 0, 1)[None].astype(np.float32)
    sizes = np.array([canvas], np.int64)
    return Batch(pixels, sizes, sizes)
