import numpy as np
import pytest
from small_network import SPEC, changed, small_network
from tiny_precision import tiny_source

from samebox.comparing.module_values import OnnxForm, TorchForm
from samebox.core.errors import SameboxError
from samebox.graph.module_outputs import MODULES_KEY, ModuleOutput, module_outputs_to_json

OUTPUTS = [
    ModuleOutput("centred", "normalize"),
    ModuleOutput("active", "relu"),
    ModuleOutput("logits", "head"),
]
FEED = {"images": np.full((1, 3, 32, 32), 50, np.float32), "sizes": np.array([[32, 32]])}


@pytest.fixture
def form(tmp_path):
    """A file that records three module outputs."""

    def add_record(model):
        model.metadata_props.add(key=MODULES_KEY, value=module_outputs_to_json(OUTPUTS))

    return OnnxForm(changed(tiny_source(tmp_path / "tiny.onnx"), tmp_path / "recorded.onnx", add_record))


def test_an_onnx_form_returns_the_outputs_of_its_modules(form):
    values = form(FEED)
    assert values.keys() == {"scores", "turned", "centred", "active", "logits"}
    np.testing.assert_array_equal(values["centred"], 25)
    np.testing.assert_allclose(values["scores"], 1 / (1 + np.exp(-values["logits"] - 0.5)), rtol=1e-5)


def test_readers_of_a_module_output_get_the_given_value(form):
    plain, given = form(FEED), form(FEED, {"active": np.zeros((1, 4, 32, 32), np.float32)})
    np.testing.assert_array_equal(given["active"], plain["active"])  # its own output is unchanged
    assert np.ptp(given["logits"]) < np.ptp(plain["logits"])
    assert given["logits"].shape == plain["logits"].shape


def test_the_nodes_between_two_module_outputs(form):
    nodes = form.segment("logits", ["centred", "active", "logits"])
    assert [node.op_type for node in nodes] == ["Conv", "Add", "Resize", "Conv"]
    assert [node.op_type for node in form.segment("active", ["centred"])] == ["Relu", "Conv"]


def test_a_file_without_a_record_of_its_modules_is_an_error(tmp_path):
    with pytest.raises(SameboxError, match=r"tiny\.onnx: its metadata has no entry samebox_modules"):
        OnnxForm(tiny_source(tmp_path / "tiny.onnx"))


def test_a_pytorch_module_with_another_number_of_calls_is_left_out():
    outputs = [
        ModuleOutput("first", "network.relu"), ModuleOutput("second", "network.relu"),
        ModuleOutput("only", "network.head"), ModuleOutput("none", "network.absent"),
    ]  # fmt: skip
    network = small_network()
    values = TorchForm(network, SPEC, outputs)(FEED)
    assert values.keys() == {"first", "second", "near", "far"}
    assert values["second"].shape == (1, 8, 32, 32)
    assert not any(module._forward_hooks for module in network.modules())
