"""Exported graphs of tiny Cascade Mask R-CNN and PointRend networks, of dynamic batch, height and width."""

import numpy as np
import pytest
import torch
from tiny_precision import pictures
from tiny_rcnn import cascade_mask_rcnn, point_rend

from samebox.engine.build import engine_from_onnx
from samebox.engine.profile import Profile
from samebox.graph.export import export
from samebox.graph.output_comparison import Tolerance, compare_outputs
from samebox.networks.nets.contract import Deployable, Normalize
from samebox.precision.convert import convert_precision
from samebox.record.preprocess import Preprocess, Resize
from samebox.record.spec import Spec
from samebox.runners.onnxruntime import OnnxRuntimeRunner
from stages.compose import compose
from stages.precision import rule

NORMALIZE = {"mean": [120.0] * 3, "std": [60.0] * 3, "channel_order": "RGB"}
SPEC = Spec("tiny", ("a", "b", "c"), Preprocess(Resize((128, 128))), NORMALIZE, "0" * 64)
SHAPES = {
    "one image": [(96, 128)],
    "mixed sizes": [(128, 160), (70, 150), (128, 61)],
    "another shape": [(224, 64)],
}
CLOSE = Tolerance(score=1e-4, box=0.05)
SERVED = Profile(batch=(1, 1, 4), height=(64, 128, 256), width=(64, 160, 256))


@pytest.fixture(scope="module", params=[cascade_mask_rcnn, point_rend], ids=["Cascade Mask", "PointRend"])
def form(request, tmp_path_factory):
    """A network and the path of its ONNX file."""
    network = Deployable(Normalize(**NORMALIZE), request.param()).eval()
    path = tmp_path_factory.mktemp("form") / "model.onnx"
    export(network, SPEC, path, opset=18, lowering="portable")
    return network, path


@pytest.mark.parametrize("sizes", SHAPES.values(), ids=SHAPES)
def test_onnxruntime_matches_pytorch(form, sizes):
    network, path = form
    height, width = np.max(sizes, 0) + 31 & ~31
    images = np.random.default_rng(3).uniform(0, 255, (len(sizes), 3, height, width)).astype(np.float32)
    with torch.inference_mode():
        outputs = network(torch.from_numpy(images), torch.tensor(sizes))
    with OnnxRuntimeRunner(path) as runner:
        onnx_outputs = runner({"images": images, "sizes": np.array(sizes)})
    expected = {name: output.numpy() for name, output in outputs.items()}
    assert compare_outputs(expected, onnx_outputs, CLOSE) == (expected["scores"] > 0).sum() > 0


def test_an_engine_builds_for_dynamic_batch_and_shape(form, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    report = engine_from_onnx(form[1], tmp_path / "model.engine", SERVED, targets=["SM89"])
    assert report.layers > 100


def test_an_engine_builds_in_int8(form, tmp_path):
    """TensorRT quantises the results of loops inside them, and fuses the operators between two products."""
    pytest.importorskip("tensorrt_rtx")
    low, precision_rule = tmp_path / "low.onnx", rule(compose("precision", ["precision=int8"]))
    convert_precision(form[1], low, "int8", precision_rule, pictures(tmp_path))
    assert engine_from_onnx(low, tmp_path / "model.engine", SERVED, targets=["SM89"]).shares["int8"] > 0
