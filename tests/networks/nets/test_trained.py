"""Checkpoints that the original framework trained and scored on the demo's images, beyond those in the demo.

They lie beside the project; the environment variable SAMEBOX_CHECKPOINTS names another folder.
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
def test_the_ap_is_what_the_original_framework_measures(name):
    if not (FOLDER / f"{name}.json").is_file():
        pytest.skip(f"no {name}.json in {FOLDER}; name its folder in SAMEBOX_CHECKPOINTS")
    recorded = json.loads((FOLDER / f"{name}.json").read_text())
    loaded = load_network(compose("export", [f"detector={name}"]), FOLDER / f"{name}.pth")
    dataset = demo_forms.whole_set()
    with Detector(TorchRunner(loaded.network, loaded.spec).__enter__()) as detector:
        scores = run_scores(run_on_data_set(detector, dataset, batch=1, warmup=0), dataset)
    kind = "segm" if name.startswith("solo") else "bbox"  # of SOLO the original gives no boxes
    assert scores[kind].stats["AP"] == pytest.approx(recorded[kind]["AP"], abs=0.1)
