"""Faults planted in a trained detector: the attribution names the module, the difference the images."""

import json

import numpy as np
import pytest
from demo_forms import dynamic, loaded, small_set
from onnx import helper, numpy_helper
from small_network import changed, scaled_weight

from samebox.comparing.attribution import attribution
from samebox.comparing.difference import difference
from samebox.comparing.module_values import OnnxForm, TorchForm
from samebox.detector import Detector
from samebox.evaluation.run import run_on_data_set
from samebox.graph.module_outputs import MODULES_KEY
from samebox.runners.onnxruntime import OnnxRuntimeRunner
from samebox.runners.torch import TorchRunner

TOLERANCE = 1e-4
ANCHORS, CONV = "network.bbox_head.anchors", "network.bbox_head.cls_convs.1.conv"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return small_set(tmp_path_factory.mktemp("shapes"), 4)


def results(dataset, runner):
    with runner as entered:
        return run_on_data_set(Detector(entered), dataset, 1, warmup=0).results


@pytest.fixture(scope="module")
def expected(dataset):
    """The results of the unchanged file."""
    return results(dataset, OnnxRuntimeRunner(dynamic()))


def differing(reference, form, dataset):
    """The module outputs that the attribution names."""
    return attribution(reference, form, [dataset.path(dataset.images[0])], TOLERANCE).differing


def shifted_anchors(model):
    """Shift the anchors of the third level by four pixels."""
    modules = json.loads({entry.key: entry.value for entry in model.metadata_props}[MODULES_KEY])
    tensor = [tensor for tensor, module in modules if module == ANCHORS][2]
    (at,) = (at for at, node in enumerate(model.graph.node) if tensor in node.output)
    model.graph.node[at].output[0] = "unshifted"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(4), "shift"))
    model.graph.node.insert(at + 1, helper.make_node("Add", ["unshifted", "shift"], [tensor]))


@pytest.mark.parametrize(
    ("plant", "names", "counted"),
    [
        (scaled_weight(f"{CONV}.weight", 1.01, (...,)), [CONV] * 5, "rescored"),
        (scaled_weight("normalize.mean", 1.1, (0,)), ["normalize"], "moved"),
        (shifted_anchors, [ANCHORS], "moved"),
    ],
    ids=["weights by 1 %", "a mean by 10 %", "anchors by four pixels"],
)
def test_the_module_of_a_fault_in_the_file_is_named(plant, names, counted, dataset, expected, tmp_path):
    fault = changed(dynamic(), tmp_path / "fault.onnx", plant)
    assert [one.module for one in differing(OnnxForm(dynamic()), OnnxForm(fault), dataset)] == names
    differs = difference(expected, results(dataset, OnnxRuntimeRunner(fault)))
    assert differs.counts[counted] > 50
    assert len(differs.images) == len(dataset.images)


def test_the_module_with_fewer_candidates_is_named(dataset, expected):
    cut = loaded("detector.network.nms_pre=100")
    form = OnnxForm(dynamic())
    first = differing(TorchForm(cut.network, cut.spec, form.modules), form, dataset)[0]
    assert first.name == ANCHORS
    assert first.reshaped == "[1, 1000, 4], not [1, 100, 4]"
    assert first.operators["TopK"] == 2
    differs = difference(expected, results(dataset, TorchRunner(cut.network, cut.spec)))
    assert differs.counts["lost"] > 200
    assert len(differs.images) == len(dataset.images)
