"""The kinds of R-CNN beyond Mask R-CNN, as tiny networks: one graph of any batch, height and width each."""

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
SHAPES = {"one": [(96, 128)], "mixed": [(128, 160), (70, 150), (128, 61)], "another": [(224, 64)]}
CLOSE = Tolerance(score=1e-4, box=0.05)
SERVED = Profile(batch=(1, 1, 4), height=(64, 128, 256), width=(64, 160, 256))


@pytest.fixture(scope="module", params=[cascade_mask_rcnn, point_rend], ids=["Cascade Mask", "PointRend"])
def form(request, tmp_path_factory):
    """A network and its ONNX file."""
    network = Deployable(Normalize(**NORMALIZE), request.param()).eval()
    path = tmp_path_factory.mktemp("form") / "model.onnx"
    export(network, SPEC, path, opset=18, lowering="portable")
    return network, path


@pytest.mark.parametrize("sizes", SHAPES.values(), ids=SHAPES)
def test_onnxruntime_finds_what_pytorch_finds(form, sizes):
    network, path = form
    height, width = np.max(sizes, 0) + 31 & ~31
    drawn = np.random.default_rng(3).uniform(0, 255, (len(sizes), 3, height, width)).astype(np.float32)
    with torch.inference_mode():
        outputs = network(torch.from_numpy(drawn), torch.tensor(sizes))
    with OnnxRuntimeRunner(path) as runner:
        found = runner({"images": drawn, "sizes": np.array(sizes)})
    expected = {name: output.numpy() for name, output in outputs.items()}
    assert compare_outputs(expected, found, CLOSE) == (expected["scores"] > 0).sum() > 0


def test_an_engine_of_any_batch_up_to_four_and_any_shape(form, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    report = engine_from_onnx(form[1], tmp_path / "model.engine", SERVED, targets=["SM89"])
    assert report.layers > 100


def test_an_engine_of_int8(form, tmp_path):
    """TensorRT quantises inside of loops what they give, and fuses what lies between two products."""
    pytest.importorskip("tensorrt_rtx")
    low, asked = tmp_path / "low.onnx", rule(compose("precision", ["precision=int8"]))
    convert_precision(form[1], low, "int8", asked, pictures(tmp_path))
    assert engine_from_onnx(low, tmp_path / "model.engine", SERVED, targets=["SM89"]).shares["int8"] > 0
