"""Checkpoints besides the demo's that MMDetection trained and scored on the demo's images.

They are in `shared/checkpoints` beside the project, or in the folder of the environment variable
SAMEBOX_CHECKPOINTS.
"""

import json
import os
from pathlib import Path

import demo_forms
import pytest

from samebox.detector import Detector
from samebox.evaluation.run import run_on_data_set
from samebox.evaluation.scores import run_scores
from samebox.runners.torch import TorchRunner
from stages.compose import compose
from stages.networks import load_network

FOLDER = Path(os.environ.get("SAMEBOX_CHECKPOINTS", demo_forms.ROOT.parent / "shared" / "checkpoints"))


@pytest.mark.parametrize("name", ["faster_rcnn_shapes", "fcos_shapes", "fsaf_shapes", "solov2_shapes"])
def test_ap_is_that_of_mmdetection(name):
    if not (FOLDER / f"{name}.json").is_file():
        pytest.skip(f"no {name}.json in {FOLDER}; set SAMEBOX_CHECKPOINTS to its folder")
    recorded = json.loads((FOLDER / f"{name}.json").read_text())
    loaded = load_network(compose("export", [f"detector={name}"]), FOLDER / f"{name}.pth")
    dataset = demo_forms.whole_set()
    with Detector(TorchRunner(loaded.network, loaded.spec).__enter__()) as detector:
        scores = run_scores(run_on_data_set(detector, dataset, batch=1, warmup=0), dataset)
    kind = "segm" if name.startswith("solo") else "bbox"  # SOLO's original code returns no boxes
    assert scores[kind].stats["AP"] == pytest.approx(recorded[kind]["AP"], abs=0.1)
