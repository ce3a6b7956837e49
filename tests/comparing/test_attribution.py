import json
import math

import numpy as np
import pytest
from onnx import TensorProto, helper
from small_network import MODULES, SPEC, changed, scaled_weight, small_file, small_network
from tiny_precision import RULE, pictures

from samebox.comparing.attribution import Clipped, ErrorSize, attribution, attribution_text
from samebox.comparing.module_values import OnnxForm, TorchForm
from samebox.core.errors import SameboxError
from samebox.precision.convert import convert_precision
from samebox.precision.quantized import Calibration

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return small_file(tmp_path_factory.mktemp("small") / "small.onnx")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return pictures(tmp_path_factory.mktemp("pictures"), 2)


@pytest.fixture(params=["torch", "onnx"])
def reference(request, source):
    """The unchanged network, in either form."""
    form = OnnxForm(source)
    return TorchForm(small_network(), SPEC, form.modules) if request.param == "torch" else form


@pytest.fixture
def compared(source, images, reference, tmp_path):
    """A function that changes the file and compares it with the reference."""

    def compared(change):
        form = OnnxForm(changed(source, tmp_path / "changed.onnx", change))
        return attribution(reference, form, images, TOLERANCE)

    return compared


def named(boundaries):
    return [boundary.name for boundary in boundaries]


def test_an_unchanged_file_does_not_differ(source, images, reference):
    found = attribution(reference, OnnxForm(source), images, TOLERANCE)
    assert [one.module for one in found.boundaries] == MODULES
    assert found.uncompared == 0
    assert found.differing == []
    assert max(boundary.accumulated.largest for boundary in found.boundaries) < 1e-5
    assert attribution_text(found) == (
        "module outputs with an own error above 0.0001 standard deviations: 0 of 7\n"
    )


def test_a_weight_changed_by_one_percent_is_found(compared):
    found = compared(scaled_weight("network.body.weight", 1.01, (3, 2, 1, 1)))
    assert named(found.differing) == ["network.body"]
    (body,) = found.differing
    assert body.operators == {"Conv": 1}
    assert 1e-4 < body.own.largest < 1e-1
    assert body.own.rms < body.own.largest / 2  # one channel of eight
    later = {one.name: one for one in found.boundaries}["network.head (output 2)"]
    assert later.accumulated.largest > TOLERANCE  # accumulated, not its own
    assert later.own.largest < 1e-5
    assert "first: network.body (" in attribution_text(found)


def test_a_weight_with_a_fused_norm_is_attributed_to_the_norm(compared):
    found = compared(scaled_weight("network.stem.weight", 1.01, (0, 0, 1, 1)))
    assert named(found.differing) == ["network.norm"]


def test_a_wrong_mean_is_found_in_the_normalisation(compared):
    found = compared(scaled_weight("normalize.mean", 1.01, (1,)))
    assert named(found.differing) == ["normalize"]


def test_another_operator_is_named(compared):
    def leaky(model):
        second = [node for node in model.graph.node if node.op_type == "Relu"][1]
        second.op_type = "LeakyRelu"

    found = compared(leaky)
    assert named(found.differing) == ["network.relu (output 2)"]
    assert found.differing[0].operators == {"LeakyRelu": 1, "Add": 1}


def test_another_shape_is_an_infinite_error_and_later_modules_still_run(compared):
    def cut(model):
        """Crops half of the rows and columns before the last convolution."""
        strided = [node for node in model.graph.node if node.op_type == "Conv"][-1]
        for name, values in (("starts", [0, 0]), ("ends", [8, 8]), ("axes", [2, 3])):
            model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [2], values))
        at = list(model.graph.node).index(strided)
        sliced = helper.make_node("Slice", [strided.input[0], "starts", "ends", "axes"], ["sliced"])
        model.graph.node.insert(at, sliced)
        model.graph.node[at + 1].input[0] = "sliced"

    found = compared(cut)
    (head,) = found.differing
    assert head.name == "network.head (output 2)"
    assert "Slice" in head.operators
    assert math.isinf(head.own.largest)
    assert head.reshaped == "[1, 2, 8, 8], not [1, 2, 16, 16]"
    assert head.reshaped in attribution_text(found)
    restored = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert restored["boundaries"][-1]["own"] == {"largest": None, "rms": None}


def lossy(source, images, tmp_path, precision, **settings):
    """The comparison of the file in another precision."""
    convert_precision(source, tmp_path / "lossy.onnx", precision, RULE, images, **settings)
    form = OnnxForm(tmp_path / "lossy.onnx")
    found = attribution(TorchForm(small_network(), SPEC, form.modules), form, images, TOLERANCE)
    assert len(found.boundaries) == len(MODULES)
    return found


def test_every_product_of_an_fp16_file_differs(source, images, tmp_path):
    found = lossy(source, images, tmp_path, "fp16")
    products = ["network.norm", "network.body", "network.head", "network.head (output 2)"]
    assert named(found.differing) == products
    for boundary in found.differing:  # 2**-11 of values of a few standard deviations
        assert TOLERANCE < boundary.own.largest < 1e-2
        assert boundary.own.rms < 2e-3


def test_an_int8_tensor_with_too_small_a_range_is_named(source, images, tmp_path):
    narrow = Calibration("percentile", percentile=80.0)
    found = lossy(source, images, tmp_path, "int8", calibration=narrow)
    wide = lossy(source, images, tmp_path, "int8", calibration=Calibration("minmax"))
    for few, all_values in zip(found.boundaries, wide.boundaries, strict=True):
        if "Conv" in few.operators:
            assert few.clipped.share > 0.1
            assert few.clipped.largest > few.clipped.limit
            assert few.own.rms > 3 * all_values.own.rms
            assert all_values.clipped.share == 0
    assert "QuantizeLinear" in found.differing[0].operators
    assert f"of {found.differing[0].clipped.tensor}, up to " in attribution_text(found)
    assert "beyond int8" in attribution_text(found)


def test_forms_without_a_module_in_common_are_an_error(source, images):
    with pytest.raises(SameboxError, match=r"small\.onnx: none of its modules is in the reference"):
        attribution(lambda feed: {}, OnnxForm(source), images, TOLERANCE)


@pytest.mark.parametrize(
    ("reference", "values", "largest", "rms"),
    [
        ([0, 2], [0, 2], 0, 0),
        ([0, 2], [0, 3], 1, math.sqrt(0.5)),  # the standard deviation is 1
        ([5, 5], [5, 6], 1, math.sqrt(0.5)),  # it is 0
        ([0, 2], [0, math.nan], math.inf, math.inf),
        ([0, 2], [0, -math.inf], math.inf, math.inf),
        ([0, 2, math.inf, math.nan], [0, 3, math.inf, math.nan], 1, 0.5),
        ([], [], 0, 0),
        ([0, 2], [0, 2, 2], math.inf, math.inf),
    ],
)
def test_the_error_is_in_standard_deviations_of_the_reference(reference, values, largest, rms):
    error = ErrorSize.between(np.array(reference, np.float32), np.array(values, np.float32))
    assert error == ErrorSize(largest, pytest.approx(rms))


def test_the_worst_image_determines_the_figures():
    assert ErrorSize(1.0, 0.5).worst(ErrorSize(2.0, 0.1)) == ErrorSize(2.0, 0.5)
    first, second = (Clipped.of("x", np.array(values), 2.0) for values in ([1.0, -3.0], [4.0, 1.0, 1.0, 2.0]))
    assert first.worst(None) == Clipped("x", 2.0, 3.0, 0.5)
    assert first.worst(second) == Clipped("x", 2.0, 4.0, 0.5)
