import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny_export
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
from tiny_onnx import tiny_model

import samebox.graph.export
from samebox.core.errors import SameboxError
from samebox.graph.export import check_standard, export, onnx_from_network
from samebox.graph.lowering import LOWERINGS, lowered
from samebox.graph.opset import OLDEST_OPSET, newest_opset
from samebox.graph.output_comparison import Tolerance, compare_outputs
from samebox.graph.reading import all_nodes, metadata
from samebox.record.preprocess import Batch, Preprocess, Resize
from samebox.record.spec import Spec

OPSETS = (OLDEST_OPSET, 18, newest_opset())
CLOSE = Tolerance(score=1e-5, box=1e-2)  # different implementations of fp32 convolutions
CANVAS = (384, 384)
NOTHING = "one cell per level, without detections"


def batches(rule, images):
    """Batches by what is special about them."""
    any_canvas = Preprocess(Resize((333, 250), fit=True), divisor=1)
    mixed = rule(images[:3], CANVAS)
    sizes = mixed.sizes * [[1], [0], [1]]
    grey = [np.full((200, 240, 3), 100, np.uint8)]
    return {
        "an image of 256x320": rule.on_canvas(256, 320)(images[:1]),
        "three images of different sizes": mixed,
        "another order": rule([images[i] for i in (2, 0, 1)], CANVAS),
        "a canvas that is not a multiple of 32": any_canvas(images[3:4], (250, 333)),
        "levels with fewer anchors than candidates": rule.on_canvas(64, 64)(images[4:6]),
        NOTHING: rule.on_canvas(8, 8)(images[:1]),
        "all grey": rule(grey),
        "an image without area between two others": Batch(mixed.images, sizes, mixed.originals),
    }


BATCHES = tuple(batches(Preprocess(Resize((8, 8))), [np.zeros((8, 8, 3), np.uint8)] * 6))


def pytorch_outputs(network, batch):
    with torch.inference_mode():
        outputs = network(torch.from_numpy(batch.images), torch.from_numpy(batch.sizes))
    return {name: output.numpy() for name, output in outputs.items()}


def onnxruntime_outputs(session, batch):
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, batch.inputs()), strict=True))


def session_of(model):
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def inputs(shapes, demo_images):
    return batches(shapes.spec.preprocess, demo_images)


@pytest.fixture(scope="module")
def expected(shapes, inputs):
    return {name: pytorch_outputs(shapes.network, batch) for name, batch in inputs.items()}


@pytest.fixture(scope="module")
def exported(shapes, tmp_path_factory):
    """A function from lowering and opset to the file. Tracing is slow, so it is done once per lowering."""
    folder = tmp_path_factory.mktemp("exported")
    traced = cache(
        lambda lowering: onnx_from_network(lowered(shapes.network, lowering, 18)).SerializeToString()
    )

    @cache
    def file(lowering, opset):
        path = folder / f"{lowering}_{opset}.onnx"
        with pytest.MonkeyPatch.context() as patch:
            model = onnx.load_from_string(traced(lowering))
            patch.setattr(samebox.graph.export, "onnx_from_network", lambda *_arguments: model)
            spec = export(shapes.network, shapes.spec, path, opset=opset, lowering=lowering)
        assert (spec.opset, spec.lowering) == (opset, lowering)
        return path

    return file


@pytest.fixture(scope="module")
def session(exported):
    return cache(lambda lowering, opset: onnxruntime.InferenceSession(exported(lowering, opset)))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("lowering", LOWERINGS)
class TestEachLoweringAndOpset:
    def test_the_file_is_plain_onnx_at_the_opset(self, exported, lowering, opset):
        model = onnx.load(exported(lowering, opset))
        onnx.checker.check_model(model, full_check=True)
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
        assert not model.functions
        operators = {node.op_type for node in all_nodes(model.graph)}
        assert {node.domain for node in all_nodes(model.graph)} == {""}
        assert ("NonMaxSuppression" in operators) == (lowering == "onnx")
        assert ("Loop" in operators) == (lowering == "portable")

    def test_the_names_and_shapes_of_inputs_and_outputs(self, exported, lowering, opset):
        graph = onnx.load(exported(lowering, opset)).graph
        signatures = {
            value.name: (
                value.type.tensor_type.elem_type,
                [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim],
            )
            for value in (*graph.input, *graph.output)
        }
        assert signatures == {
            "images": (TensorProto.FLOAT, ["batch", 3, "height", "width"]),
            "sizes": (TensorProto.INT64, ["batch", 2]),
            "boxes": (TensorProto.FLOAT, ["batch", 100, 4]),
            "scores": (TensorProto.FLOAT, ["batch", 100]),
            "labels": (TensorProto.INT64, ["batch", 100]),
        }
        assert list(signatures) == ["images", "sizes", "boxes", "scores", "labels"]

    def test_the_metadata_contains_the_record(self, shapes, exported, lowering, opset):
        path = exported(lowering, opset)
        entries = metadata(onnx.load(path))
        assert list(entries) == ["samebox", "samebox_modules"]
        record = Spec.from_metadata(entries, str(path))
        assert (record.opset, record.lowering) == (opset, lowering)
        assert record.preprocess == shapes.spec.preprocess
        assert record.class_names == ("disc", "square", "triangle", "star", "ring", "cross")

    def test_the_file_contains_no_text_of_this_machine(self, exported, lowering, opset):
        model = onnx.load(exported(lowering, opset))
        for initializer in model.graph.initializer:
            initializer.raw_data = b""  # weights may contain any bytes
        content = model.SerializeToString()
        for trace in (b"site-packages", b"/tmp", b".py", b"Traceback", str(Path.home()).encode() + b"/"):
            assert trace not in content

    @pytest.mark.parametrize("name", BATCHES)
    def test_onnxruntime_gives_the_outputs_of_pytorch(self, session, inputs, expected, lowering, opset, name):
        outputs = onnxruntime_outputs(session(lowering, opset), inputs[name])
        matched = compare_outputs(expected[name], outputs, CLOSE)
        assert matched == (expected[name]["scores"] > 0).sum()
        assert (matched == 0) == (name == NOTHING)
        padding = expected[name]["scores"] == 0
        assert not any(value[padding].any() for value in outputs.values())
        assert (np.diff(outputs["scores"]) <= 0).all()

    def test_an_image_in_a_batch_gives_the_same_outputs_as_alone(
        self, shapes, demo_images, session, inputs, lowering, opset
    ):
        together = onnxruntime_outputs(session(lowering, opset), inputs["three images of different sizes"])
        for index, image in enumerate(demo_images[:3]):
            alone = onnxruntime_outputs(session(lowering, opset), shapes.spec.preprocess([image], CANVAS))
            in_batch = {name: value[index : index + 1] for name, value in together.items()}
            assert compare_outputs(alone, in_batch, CLOSE) > 50

    def test_no_candidates_give_no_detections(self, exported, inputs, lowering, opset):
        """With a very low class bias no candidate exceeds the threshold, and the loops do not run."""
        model = onnx.load(exported(lowering, opset))
        (bias,) = (i for i in model.graph.initializer if i.name.endswith("bbox_head.retina_cls.bias"))
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) - 30, bias.name))
        outputs = onnxruntime_outputs(session_of(model), inputs["three images of different sizes"])
        assert outputs["boxes"].shape == (3, 100, 4)
        assert not any(value.any() for value in outputs.values())


@pytest.fixture(scope="module")
def fixed(shapes, demo_images, tmp_path_factory):
    """Record, file and inputs of a network for one image on a canvas of 192x256."""
    rule = shapes.spec.preprocess.on_canvas(192, 256)
    path = tmp_path_factory.mktemp("fixed") / "fixed.onnx"
    spec = replace(shapes.spec, preprocess=rule)
    spec = export(shapes.network, spec, path, opset=18, lowering="portable", batch=1)
    return spec, path, rule(demo_images[:1])


def test_a_fixed_batch_and_canvas(shapes, fixed):
    spec, path, batch = fixed
    graph = onnx.load(path).graph
    dims = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.input, *graph.output)]
    assert dims == [[1, 3, 192, 256], [1, 2], [1, 100, 4], [1, 100], [1, 100]]
    assert Spec.from_metadata(metadata(onnx.load(path)), "") == spec
    expected = pytorch_outputs(shapes.network, batch)
    outputs = onnxruntime_outputs(onnxruntime.InferenceSession(path), batch)
    assert compare_outputs(expected, outputs, CLOSE) == (expected["scores"] > 0).sum() > 0


def test_a_fixed_batch_refuses_another(fixed):
    _, path, batch = fixed
    twice = Batch(*(np.concatenate([field, field]) for field in vars(batch).values()))
    with pytest.raises(InvalidArgument):
        onnxruntime_outputs(onnxruntime.InferenceSession(path), twice)


def test_another_process_exports_the_same_bytes(tmp_path):
    """It has another hash seed and another working directory; this process exported other networks before."""
    here, there = tmp_path / "here.onnx", tmp_path / "there.onnx"
    root = str(Path(samebox.graph.export.__file__).parents[2])
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": root}
    child = subprocess.Popen([sys.executable, tiny_export.__file__, there], cwd=tmp_path, env=environment)
    export(tiny_export.tiny_network(), tiny_export.SPEC, here, opset=16, lowering="portable")
    assert child.wait() == 0
    assert here.read_bytes() == there.read_bytes()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"opset": 99}, f"export.opset: 99 is outside 11..{newest_opset()}"),
        ({"opset": 10}, f"export.opset: 10 is outside 11..{newest_opset()}"),
        ({"lowering": "caffe"}, "export.lowering: 'caffe' is none of portable, onnx"),
    ],
    ids=["too new", "too old", "lowering"],
)
def test_an_invalid_choice_is_an_error_and_writes_no_file(tmp_path, choice, message):
    with pytest.raises(SameboxError) as caught:
        export(
            tiny_export.tiny_network(),
            tiny_export.SPEC,
            tmp_path / "net.onnx",
            **{"opset": 18, "lowering": "portable", **choice},
        )
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


class TestCheckStandard:
    def test_plain_onnx(self):
        check_standard(tiny_model(), 18)

    def test_another_opset(self):
        with pytest.raises(SameboxError, match=r"not plain ONNX at opset 17: it imports \[\('', 18\)\]"):
            check_standard(tiny_model(), 17)

    def test_another_domain(self):
        model = tiny_model()
        model.opset_import.append(helper.make_opsetid("mmdeploy", 1))
        model.graph.node[0].domain = "mmdeploy"
        with pytest.raises(SameboxError, match="mmdeploy::Identity"):
            check_standard(model, 18)
