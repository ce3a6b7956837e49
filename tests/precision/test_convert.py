import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_precision import RULE, SPEC, pictures, record, tiny, tiny_source

from samebox.core.errors import SameboxError
from samebox.graph.opset import newest_opset
from samebox.precision import convert
from samebox.precision.achieved import achieved_precision, check_achieved_precision
from samebox.precision.convert import convert_precision
from samebox.precision.quantized import Calibration
from samebox.precision.rounding import rounded
from samebox.record.preprocess import read_image
from samebox.record.spec import METADATA_KEY, PRECISION_KEY

HALF = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


@pytest.fixture
def source(tmp_path):
    return tiny_source(tmp_path / "tiny.onnx")


@pytest.fixture
def images(tmp_path):
    return pictures(tmp_path)


def outputs_of(model, image):
    """ONNX Runtime's outputs for one image."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    batch = SPEC.preprocess([read_image(image)])
    wanted = {value.name for value in session.get_inputs()}
    return session.run(None, {name: value for name, value in batch.inputs().items() if name in wanted})


@pytest.mark.parametrize(("precision", "opset"), [("fp16", 18), ("fp16", 24), ("bf16", 22)])
def test_products_and_nodes_between_them_are_16_bit_and_the_rest_is_unchanged(
    source, images, tmp_path, precision, opset
):
    target = tmp_path / "half.onnx"
    report = convert_precision(source, target, precision, RULE, images, opset=opset)
    model = onnx.load(target)
    assert report.products == {precision: 3}
    assert set(report.operators[precision]) == {"Cast", "Conv", "Relu", "Resize", "Add"}
    assert (report.kept, report.overflows, report.images, report.calibration) == ([], {}, 3, None)
    assert [list(model.graph.input), list(model.graph.output)] == [
        list(tiny().graph.input),
        list(tiny().graph.output),
    ]
    weights = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert weights[f"w_stem_{precision}"] == weights[f"b_head_{precision}"] == HALF[precision]
    assert weights["w_loop"] == weights["half"] == weights["factors"] == TensorProto.FLOAT
    assert "w_stem" not in weights
    casts = [(*node.input, *node.output) for node in model.graph.node if node.op_type == "Cast"]
    assert casts == [("centred", f"centred_{precision}"), (f"logits_{precision}", "logits")]
    assert record(model, PRECISION_KEY) == {"asked": precision, "products": {precision: 3}}
    assert record(model, METADATA_KEY)["opset"] == report.opset == model.opset_import[0].version == opset


def test_bf16_needs_an_opset_that_supports_it(source, images, tmp_path):
    with pytest.raises(
        SameboxError, match=r"Conv does not support bf16 at opset 18; set precision\.opset=22"
    ):
        convert_precision(source, tmp_path / "half.onnx", "bf16", RULE, images)
    assert not (tmp_path / "half.onnx").exists()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_rounded_graph_equals_16_bit_arithmetic_in_numpy(source, images, tmp_path, precision):
    """Compared with the same convolutions in NumPy, rounded to the type, with sums in fp32."""
    target = tmp_path / "half.onnx"
    convert_precision(source, target, precision, RULE, images, opset=22)
    model = rounded(onnx.load(target), "half.onnx")
    assert not [tensor for tensor in model.graph.initializer if tensor.data_type in HALF.values()]
    dtype = convert.SIXTEEN_BIT_TYPES[precision][1]
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(source).graph.initializer}

    def low(values):
        return values.astype(dtype).astype(np.float32)

    x = low(SPEC.preprocess([read_image(images[0])]).images * 0.5)
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3)
    )
    stem = np.einsum("bchwij,ocij->bohw", windows, low(weights["w_stem"]))
    small = np.maximum(low(stem + low(weights["b_stem"])[:, None, None]), 0)[:, :, ::2, ::2]
    body = low(np.einsum("bchw,oc->bohw", small, low(weights["w_body"])[..., 0, 0]))
    logits = np.einsum("bchw,oc->bohw", low(body + small), low(weights["w_head"])[..., 0, 0])
    expected = 1 / (1 + np.exp(-(low(logits + low(weights["b_head"])[:, None, None]) + 0.5)))
    output, _ = outputs_of(model, images[0])
    exact, _ = outputs_of(onnx.load(source), images[0])
    step = {"fp16": 2**-11, "bf16": 2**-8}[precision]
    # sums in another order may round the other way, in few places
    assert np.mean(np.abs(output - expected) < 1e-6) > 0.99
    assert np.abs(output - expected).max() < 2 * step
    assert np.abs(output - exact).max() > 1e-5


@pytest.mark.parametrize(
    ("precision", "opset"), [("fp16", 13), ("fp16", newest_opset()), ("int8", 13), ("int8", newest_opset())]
)
def test_conversion_at_the_oldest_and_the_newest_opset(source, images, tmp_path, precision, opset):
    model = tiny()
    if opset < 18:
        del model.opset_import[:]
        model.opset_import.append(onnx.helper.make_opsetid("", opset))
    onnx.save(model, source)
    report = convert_precision(source, tmp_path / "low.onnx", precision, RULE, images, opset=opset)
    assert (report.opset, report.products) == (opset, {precision: 3})
    output, exact = (outputs_of(onnx.load(path), images[0])[0] for path in (tmp_path / "low.onnx", source))
    assert np.abs(output - exact).mean() < 0.02


def test_int8_needs_an_opset_with_scales_per_channel(source, images, tmp_path):
    model = tiny()
    model.opset_import[0].version = 12
    onnx.save(model, source)
    with pytest.raises(SameboxError) as caught:
        convert_precision(source, tmp_path / "low.onnx", "int8", RULE, images)
    assert str(caught.value) == (
        f"{source}: int8 with one scale per channel needs opset 13, and the file is at 12; "
        "set precision.opset=13"
    )
    assert convert_precision(source, tmp_path / "low.onnx", "int8", RULE, images, opset=13).products == {
        "int8": 3
    }


def test_a_weight_computed_from_constants_is_stored_in_int8(source, images, tmp_path):
    """Exporters leave large weights so: DETR's attention transposes a third of one weight."""
    convert_precision(source, tmp_path / "stored.onnx", "int8", RULE, images)
    model = onnx.load(source)
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "w_body")
    turned = numpy_helper.to_array(weight).transpose(1, 0, 2, 3)
    weight.CopyFrom(numpy_helper.from_array(turned.copy(), "w_turned"))
    model.graph.node.insert(
        0, helper.make_node("Transpose", ["w_turned"], ["w_body"], "turn", perm=[1, 0, 2, 3])
    )
    onnx.save(model, source)
    assert convert_precision(source, tmp_path / "low.onnx", "int8", RULE, images).products == {"int8": 3}
    low, stored = (onnx.load(tmp_path / name) for name in ("low.onnx", "stored.onnx"))
    assert "Transpose" not in {node.op_type for node in low.graph.node}
    assert "w_turned" not in {tensor.name for tensor in low.graph.initializer}
    for one, other in zip(outputs_of(low, images[0]), outputs_of(stored, images[0]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_nodes_with_an_overflowing_tensor_stay_in_fp32_and_it_is_named(tmp_path, images):
    source = tiny_source(tmp_path / "tiny.onnx", scale=1e5)
    report = convert_precision(source, tmp_path / "half.onnx", "fp16", RULE, images)
    assert set(report.overflows) == {"body", "summed"}
    assert 65504 < report.overflows["body"] < np.inf
    assert report.products == {"fp16": 1, "fp32": 2}
    assert report.kept == ["node_body", "node_logits"]
    output, _ = outputs_of(onnx.load(tmp_path / "half.onnx"), images[0])
    assert np.isfinite(output).all()
    with pytest.raises(SameboxError, match=r"body reaches [\d.e+]+, .*more than 65504, the largest fp16"):
        convert_precision(source, tmp_path / "other.onnx", "fp16", RULE, images, overflow="error")
    assert not (tmp_path / "other.onnx").exists()
    assert convert_precision(source, tmp_path / "half.onnx", "bf16", RULE, images, opset=22).overflows == {}


def test_an_overflowing_weight_is_reported(tmp_path, images):
    model = tiny()
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "w_head")
    tensor.CopyFrom(numpy_helper.from_array(np.full((2, 4, 1, 1), 7e4, np.float32), "w_head"))
    onnx.save(model, tmp_path / "tiny.onnx")
    report = convert_precision(tmp_path / "tiny.onnx", tmp_path / "half.onnx", "fp16", RULE, images)
    assert report.overflows["w_head"] == 7e4
    assert report.kept == ["node_logits"]


def test_a_graph_that_is_still_fp32_is_an_error(source, images, tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "convert_to_sixteen_bit", lambda model, region, precision: None)
    with pytest.raises(
        SameboxError, match=r"fp16 was requested, but it has 3 products with weights: 3 in fp32"
    ):
        convert_precision(source, tmp_path / "half.onnx", "fp16", RULE, images)
    assert not (tmp_path / "half.onnx").exists()
    with pytest.raises(
        SameboxError, match=r"tiny\.onnx: fp16 was requested, but it has 3 products with weights: 3 in fp32"
    ):
        check_achieved_precision(achieved_precision(onnx.load(source), RULE), "fp16", [], "tiny.onnx")
    with pytest.raises(SameboxError, match="no part of it is fp16 or bf16"):
        rounded(onnx.load(source), "tiny.onnx")


@pytest.mark.parametrize("method", ["entropy", "percentile", "minmax"])
def test_int8_products_have_one_scale_per_channel(source, images, tmp_path, method):
    target = tmp_path / "int8.onnx"
    report = convert_precision(source, target, "int8", RULE, images, calibration=Calibration(method))
    model = onnx.load(target)
    assert report.products == {"int8": 3}
    assert report.calibration == Calibration(method)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    producers = {name: node for node in model.graph.node for name in node.output}
    for node in (node for node in model.graph.node if node.op_type == "Conv"):
        values, weight = producers[node.input[0]], producers[node.input[1]]
        assert stored[weight.input[0]].dtype == np.int8
        assert stored[weight.input[1]].shape == (len(stored[weight.input[0]]),)
        assert stored[values.input[1]].shape == ()
        assert stored[values.input[2]] == 0  # symmetric
        assert all(name in stored and stored[name].dtype == np.float32 for name in node.input[2:])
    output, exact = (outputs_of(one, images[0])[0] for one in (model, onnx.load(source)))
    assert 1e-6 < np.abs(output - exact).mean() < 0.02
    assert record(model, METADATA_KEY) == record(onnx.load(source), METADATA_KEY)


def test_ranges_come_from_the_preprocessed_images(source, images, tmp_path):
    target = tmp_path / "int8.onnx"
    convert_precision(source, target, "int8", RULE, images, calibration=Calibration("minmax"))
    model = onnx.load(target)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    quantize = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "centred")
    brightest = max(SPEC.preprocess([read_image(image)]).images.max() for image in images) / 2
    assert stored[quantize.input[1]] == pytest.approx(brightest / 127.5, rel=0.01)


def test_conversion_is_deterministic(source, images, tmp_path):
    for precision in ("fp16", "int8"):
        once, again = (tmp_path / f"{precision}_{index}.onnx" for index in range(2))
        for target in (once, again):
            convert_precision(source, target, precision, RULE, images)
        assert once.read_bytes() == again.read_bytes()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"precision": "fp8"}, "'fp8' is none of fp16, bf16, int8"),
        ({"overflow": "ignore"}, "neither fp32 nor error"),
        ({"images": []}, "no image to calibrate with"),
        ({"opset": 17}, "at opset 18 already"),
        ({"rule": RULE.__class__(["Conv"], [], ["*"])}, "nothing to convert"),
        ({"source": "absent.onnx"}, "no such file"),
    ],
)
def test_invalid_arguments_and_files_are_errors(source, images, tmp_path, changes, fault):
    arguments = {
        "source": source,
        "precision": "fp16",
        "rule": RULE,
        "images": images,
        "overflow": "fp32",
    } | changes
    arguments["source"] = tmp_path / arguments["source"]
    with pytest.raises(SameboxError, match=fault):
        convert_precision(target=tmp_path / "half.onnx", **arguments)
    assert not (tmp_path / "half.onnx").exists()


@pytest.mark.parametrize("wrong", [{"method": "mean"}, {"percentile": 10}])
def test_an_invalid_calibration_is_an_error(wrong):
    with pytest.raises(SameboxError, match=f"precision.{next(iter(wrong))}"):
        Calibration(**wrong)
