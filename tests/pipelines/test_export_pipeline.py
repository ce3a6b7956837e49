import re
from dataclasses import replace

import demo_forms
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from pipelines import export as pipeline
from samebox.core.errors import SameboxError
from samebox.core.files import sha256
from samebox.detector import load
from samebox.evaluation.agreement import Agreement
from samebox.graph.reading import input_shapes, metadata, onnx_model
from samebox.record.spec import Spec
from stages.compose import compose

IMAGE = demo_forms.IMAGES / "000020000000.jpg"


def test_one_command_gives_one_file_of_the_shape_asked_for():
    out, _ = demo_forms.fixed()
    model = onnx_model(out)
    onnx.checker.check_model(model, full_check=True)
    height, width = demo_forms.CANVAS
    assert input_shapes(model, out) == {"images": [2, 3, height, width], "sizes": [2, 2]}
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 18}


def test_the_file_says_what_it_is():
    out, _ = demo_forms.fixed()
    spec = Spec.from_metadata(metadata(onnx_model(out)), str(out))
    assert (spec.name, spec.opset, spec.lowering) == ("retinanet_shapes", 18, "portable")
    assert spec.checkpoint_sha256 == sha256(demo_forms.CHECKPOINT)
    assert spec.preprocess.canvas == demo_forms.CANVAS


def test_it_says_what_it_did():
    _, printed = demo_forms.fixed()
    assert re.search(r"^simplified: \d+ nodes before, \d+ after$", printed, re.M)
    assert re.search(r"fixed\.onnx: \d\.\d MB, opset 18, portable$", printed, re.M)
    found = re.search(
        r"jpg: (\d+) of (\d+) detections matched, (\d+) in the other form; largest diff", printed
    )
    assert len({*found.groups()}) == 1
    assert int(found[1]) > 10


@pytest.mark.parametrize(
    ("apart", "limits"),
    [
        (Agreement(4, 4, np.array([0, 0, 0, 5.0]), np.zeros(4)), r"0\.1 px and 0\.001 in score; export"),
        (
            Agreement(4, 4, np.zeros(4), np.zeros(4), np.array([1, 1, 1, 0.98])),
            r"0\.1 px and 0\.001 in score, with masks to an IoU of 0\.99; export",
        ),
    ],
    ids=["box", "mask"],
)
def test_disagreement_with_pytorch_is_an_error(monkeypatch, apart, limits):
    monkeypatch.setattr(pipeline, "agreement", lambda *_: apart)
    demo = demo_forms.loaded("export.shape={}x{}".format(*demo_forms.CANVAS))
    with pytest.raises(SameboxError, match=f"less than 99% of the detections agree with PyTorch to {limits}"):
        pipeline.verify(demo, demo_forms.fixed()[0], IMAGE)


def test_nothing_detected_is_no_agreement(monkeypatch):
    monkeypatch.setattr(pipeline, "agreement", lambda *_: Agreement(0, 0, np.zeros(0), np.zeros(0)))
    demo = demo_forms.loaded("export.shape={}x{}".format(*demo_forms.CANVAS))
    with pytest.raises(SameboxError, match="verify: neither PyTorch nor ONNX Runtime detects anything in"):
        pipeline.verify(demo, demo_forms.fixed()[0], IMAGE)


def test_pixels_of_another_class_are_an_error(monkeypatch):
    alike = Agreement(4, 4, np.zeros(4), np.zeros(4), pixels=0.98)
    monkeypatch.setattr(pipeline, "agreement", lambda *_: alike)
    demo = demo_forms.loaded("export.shape={}x{}".format(*demo_forms.CANVAS))
    with pytest.raises(SameboxError, match=r"only 98\.0% of the pixels have the same class as in PyTorch"):
        pipeline.verify(demo, demo_forms.fixed()[0], IMAGE)
    monkeypatch.setattr(pipeline, "agreement", lambda *_: replace(alike, pixels=0.991))
    pipeline.verify(demo, demo_forms.fixed()[0], IMAGE)


def test_a_simplification_that_fails_is_said_and_the_graph_goes_on(tmp_path, capsys):
    limits = ["checkpoint=a", "out=b", "limits.seconds=0"]
    source, out = demo_forms.fixed()[0], tmp_path / "out.onnx"
    pipeline.simplify(compose("export_file", limits), source, out)
    assert capsys.readouterr().out == "not simplified: the simplifier took more than 0 s\n"
    assert out.read_bytes() == source.read_bytes()


def test_an_address_is_fetched(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(pipeline, "fetch", lambda source, target: asked.append(source) or target)
    config = compose("export_file", ["checkpoint=https://a.example/b.pth", "out=c.onnx"])
    assert pipeline.checkpoint(config, tmp_path) == tmp_path / "checkpoint.pth"
    assert asked == ["https://a.example/b.pth"]


def test_the_maps_of_the_heads_alone(tmp_path):
    out = tmp_path / "heads.onnx"
    height, width = demo_forms.CANVAS
    asked = [f"checkpoint={demo_forms.CHECKPOINT}", f"out={out}", "export.postprocess=false", "simplify=true"]
    pipeline.run(compose("export_file", [*asked, f"export.shape={height}x{width}"]))
    session = onnxruntime.InferenceSession(out)
    names = [output.name for output in session.get_outputs()]
    assert names == [f"{part}_{stride}" for stride in (8, 16, 32, 64, 128) for part in ("logits", "deltas")]
    assert session.get_outputs()[0].shape == ["batch", 54, height // 8, width // 8]

    network = demo_forms.loaded("export.postprocess=false").network
    images = np.random.default_rng(0).uniform(0, 255, (3, 3, height, width)).astype(np.float32)
    feed = {"images": images, "sizes": np.array([[height, width], [100, 90], [64, 224]])}
    with torch.no_grad():
        expected = network(*map(torch.from_numpy, feed.values()))
    for name, found in zip(names, session.run(None, feed), strict=True):
        np.testing.assert_allclose(found, expected[name].numpy(), atol=2e-4)

    with pytest.raises(SameboxError, match=r"returns head outputs, not detections; .*postprocess=true"):
        load(out)


def test_maps_of_heads_are_not_verified(tmp_path):
    asked = ["checkpoint=a", f"out={tmp_path}/b.onnx", "export.postprocess=false", "verify=true"]
    with pytest.raises(SameboxError, match=r"verify: there are no detections .*; leave it out"):
        pipeline.run(compose("export_file", asked))


def test_a_masked_norm_is_for_networks_that_have_one():
    with pytest.raises(
        SameboxError, match=r"export\.masked_norm: retinanet_shapes has no masked norm; set it to false"
    ):
        demo_forms.loaded("export.masked_norm=true")
