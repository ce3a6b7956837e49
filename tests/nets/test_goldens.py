"""Every family against the original code it stands for, in PyTorch and by ONNX Runtime."""

from copy import copy
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from goldens_support import ABSENT, PRESENT, Golden, samples

from samebox.detections import detections_from_outputs
from samebox.export import check_standard, onnx_from_network
from samebox.lowering import LOWERINGS
from samebox.opset import EXPORTER_OPSET, at_opset, newest

pytestmark = pytest.mark.skipif(not PRESENT, reason=ABSENT)


def retinanet(network, x):
    """The tensors of RetinaNet that a case stores, by name."""
    backbone = copy(network.backbone)
    backbone.out_stages = (0, 1, 2, 3)  # RetinaNet itself leaves the first out
    stages = backbone(x)
    levels = network.neck(stages[1:])
    scores, deltas = zip(*(network.bbox_head(level) for level in levels), strict=True)
    parts = {
        "backbone": stages,
        "neck": levels,
        "bbox_head/cls_score": scores,
        "bbox_head/bbox_pred": deltas,
    }
    return {f"{part}/{i}": tensor for part, tensors in parts.items() for i, tensor in enumerate(tensors)}


FIELDS = ("boxes", "scores", "labels")

# The case's folder; the detector of conf/detector; its tensors at the probe
CASES = [pytest.param(("mmdet/retinanet_r50_fpn", "retinanet_r50_fpn", retinanet), id="retinanet_r50_fpn")]


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    folder, detector, probes = request.param
    return Golden(folder, detector, tmp_path_factory.mktemp("golden")), probes


@pytest.fixture(scope="module")
def golden(case):
    return case[0]


def test_every_part_at_the_probe(case):
    golden, probes = case
    with torch.inference_mode():
        found = probes(golden.loaded.network.network, golden.probe())
    assert found.keys() == golden.meta["probe"]["values"].keys()
    for name, tensor in found.items():
        golden.assert_tensor(name, tensor)


def test_what_the_network_is_asked(golden):
    for index, (batch, stated) in enumerate(zip(golden.batches, golden.meta["inputs"], strict=True)):
        assert batch.originals[0].tolist() == stated["original"]
        assert batch.sizes[0].tolist() == stated["resized"]
        assert list(batch.images.shape[2:]) == stated["padded"]
        normalized = golden.loaded.network.normalize(
            torch.from_numpy(batch.images), torch.from_numpy(batch.sizes)
        )
        np.testing.assert_allclose(samples(normalized), golden.outputs[f"{index}/tensor"], atol=1e-5)


def assert_finds_the_same(golden, run, images=None):
    """`run` on each of the case's images, or on the first few, finds what the original code found."""
    for index, batch in enumerate(golden.batches[:images]):
        names = golden.loaded.spec.class_names
        golden.assert_detections(index, *detections_from_outputs(run(batch), batch, names))


def test_pytorch(golden):
    def run(batch):
        with torch.inference_mode():
            outputs = golden.loaded.network(torch.from_numpy(batch.images), torch.from_numpy(batch.sizes))
        return {name: output.numpy() for name, output in outputs.items()}

    assert_finds_the_same(golden, run)


@pytest.fixture(scope="module", params=LOWERINGS)
def traced(request, golden):
    return onnx_from_network(golden.loaded.network, request.param)


@pytest.mark.parametrize("opset", [16, 18, newest()])
def test_onnxruntime(golden, traced, opset):
    model = at_opset(traced, opset)
    check_standard(model, opset)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(batch):
        return dict(zip(names, session.run(None, batch.inputs()), strict=True))

    # one image shows that another opset says the same; all are for the graph as it was traced
    assert_finds_the_same(golden, run, images=None if opset == EXPORTER_OPSET else 1)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(lambda d: replace(d, boxes=d.boxes + 0.2), id="boxes"),
        pytest.param(lambda d: replace(d, scores=d.scores + 2e-4), id="scores"),
        pytest.param(lambda d: replace(d, labels=(d.labels + 1) % 80), id="labels"),
        pytest.param(lambda d: replace(d, **{f: getattr(d, f)[2:] for f in FIELDS}), id="two are missing"),
        pytest.param(
            lambda d: replace(d, **{f: np.concatenate([getattr(d, f), getattr(d, f)[:2]]) for f in FIELDS}),
            id="two too many",
        ),
    ],
)
def test_a_difference_is_noticed(golden, changed):
    reference = golden.detections(0)
    golden.assert_detections(0, reference)
    with pytest.raises(AssertionError, match="image 0: only"):
        golden.assert_detections(0, changed(reference))
