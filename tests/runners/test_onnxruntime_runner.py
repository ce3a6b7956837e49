from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser
from onnxruntime.capi import onnxruntime_pybind11_state as failures
from tiny_onnx import METADATA, tiny_file, tiny_model

import samebox.runners.onnxruntime as module
from samebox.core.errors import NotHere, SameboxError
from samebox.core.gpu import Gpu, gpus
from samebox.engine.providers import CPU, CUDA, PROVIDERS, TENSORRT
from samebox.graph.reading import all_nodes
from samebox.runners.onnxruntime import OnnxRuntimeRunner

FEED = {
    "images": np.random.default_rng(0).uniform(0, 255, (2, 3, 64, 96)).astype(np.float32),
    "sizes": np.array([[64, 96], [40, 50]]),
}


def test_outputs_and_metadata_are_those_of_the_file(tmp_path):
    path = tiny_file(tmp_path / "tiny.onnx")
    with OnnxRuntimeRunner(path) as runner:
        assert runner.metadata == {"samebox": METADATA}
        assert (runner.name, runner.batch) == (str(path), None)
        outputs = runner(FEED)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert list(outputs) == ["boxes", "scores", "labels"]
    for name, expected in zip(outputs, session.run(None, FEED), strict=True):
        np.testing.assert_array_equal(outputs[name], expected)


def test_a_fixed_batch_is_known_and_the_only_one_accepted(tmp_path):
    with OnnxRuntimeRunner(tiny_file(tmp_path / "tiny.onnx", batch=2, height=64, width=96)) as runner:
        assert runner.batch == 2
        assert runner(FEED)["scores"].shape == (2, 8)
        one_image = {name: value[:1] for name, value in FEED.items()}
        with pytest.raises(SameboxError, match=r"tiny\.onnx: .*[Gg]ot: 1 Expected: 2"):
            runner(one_image)


def test_the_session_ends_with_the_block_and_may_be_closed_twice(tmp_path):
    with OnnxRuntimeRunner(tiny_file(tmp_path / "tiny.onnx")) as runner:
        pass
    runner.__exit__(None, None, None)
    with pytest.raises(AttributeError):
        runner(FEED)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(SameboxError, match=r"none\.onnx: no such file"):
        OnnxRuntimeRunner(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    "damage", ["truncated", "text", "empty", "folder", "weights of no graph", "no operator"]
)
def test_a_file_that_cannot_be_loaded_is_an_error_of_one_line(tmp_path, damage):
    path = tmp_path / "broken.onnx"
    model = tiny_model()
    if damage == "no operator":
        model.graph.node[0].op_type = "Identical"
    content = model.SerializeToString()
    damaged = {
        "truncated": content[: len(content) // 2],
        "text": b"no model at all\n",
        "empty": b"",
        "weights of no graph": onnx.ModelProto(ir_version=10).SerializeToString(),
        "no operator": content,
    }
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes(damaged[damage])
    with pytest.raises(SameboxError, match=r"broken\.onnx: ONNX Runtime cannot load it") as error:
        OnnxRuntimeRunner(path).__enter__()
    assert "\n" not in str(error.value)


def changed(path, change):
    model = tiny_model()
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def shape(model, index=0):
    return model.graph.input[index].type.tensor_type.shape.dim


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda model: setattr(shape(model)[0], "dim_value", 1 << 40), id="batch 2^40"),
        pytest.param(lambda model: setattr(shape(model)[2], "dim_value", 1 << 30), id="height 2^30"),
        pytest.param(lambda model: setattr(shape(model)[1], "dim_value", 4), id="four channels"),
        pytest.param(lambda model: shape(model, 1).pop(), id="sizes of one axis"),
    ],
)
def test_other_inputs_are_an_error(tmp_path, change):
    path = changed(tmp_path / "net.onnx", change)
    with pytest.raises(SameboxError, match=r"net\.onnx: (its i|ONNX Runtime cannot load it)"):
        OnnxRuntimeRunner(path).__enter__()


def test_a_further_input_that_is_not_given_is_an_error(tmp_path):
    path = changed(tmp_path / "net.onnx", lambda model: model.graph.input.add().CopyFrom(extra_input()))
    inputs = {"images": np.zeros((1, 3, 64, 96), np.float32), "sizes": np.array([[64, 96]])}
    with OnnxRuntimeRunner(path) as runner, pytest.raises(SameboxError, match=r"net\.onnx: .*input"):
        runner(inputs)


def extra_input():
    return onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1])


def test_metadata_that_is_not_utf_8_is_an_error(tmp_path):
    path = tiny_file(tmp_path / "net.onnx")
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xfe"))
    with pytest.raises(SameboxError, match=r"net\.onnx: 'utf-8' codec can't decode"):
        OnnxRuntimeRunner(path).__enter__()


ENDLESS = """
<ir_version: 10, opset_import: ["" : 18]>
endless (float[batch,3,height,width] images, int64[batch,2] sizes) => (float scores)
<int64 trips = {9223372036854775807}, bool on = {1}>
{
  start = ReduceMax<keepdims = 0>(images)
  scores = Loop(trips, on, start) <body = body
    (int64 i, bool go, float s) => (bool go_on, float less) { go_on = Identity(go)  less = Neg(s) }>
}
"""


def test_an_endless_graph_is_stopped_and_not_run_again(tmp_path):
    onnx.save(parser.parse_model(ENDLESS), tmp_path / "net.onnx")
    with OnnxRuntimeRunner(tmp_path / "net.onnx", time_limit=0.1) as runner:
        for _ in range(2):
            with pytest.raises(SameboxError, match=r"net\.onnx: stopped after 0\.1 s per image"):
                runner(FEED)


def test_a_run_within_the_limit_is_not_stopped(tmp_path):
    with OnnxRuntimeRunner(tiny_file(tmp_path / "tiny.onnx"), time_limit=60) as runner:
        assert runner(FEED)["scores"].shape == (2, 8)
    with pytest.raises(SameboxError, match="time_limit: 0 is not above 0"):
        OnnxRuntimeRunner(tiny_file(tmp_path / "tiny.onnx"), time_limit=0)


def test_a_graph_that_fails_is_an_error_of_one_line_without_a_log(tmp_path, capfd):
    def fail(model):
        node = next(node for node in model.graph.node if node.op_type == "TopK")
        node.name = "\x1b[31mred"
        next(value for value in model.graph.initializer if value.name == "k").CopyFrom(
            onnx.numpy_helper.from_array(np.array([10**6]), "k")
        )

    with (
        OnnxRuntimeRunner(changed(tmp_path / "net.onnx", fail)) as runner,
        pytest.raises(SameboxError, match=r"net\.onnx: ") as error,
    ):
        runner(FEED)
    assert str(error.value).isprintable()
    assert capfd.readouterr() == ("", "")


def test_an_unknown_device_is_an_error(tmp_path):
    with pytest.raises(SameboxError, match="device: 'gpu' is not one of cpu, cuda, tensorrt"):
        OnnxRuntimeRunner(tiny_file(tmp_path / "tiny.onnx"), device="gpu")


def opened(path, device="cuda"):
    return OnnxRuntimeRunner(path, device).__enter__()


@pytest.fixture
def path(tmp_path):
    return tiny_file(tmp_path / "tiny.onnx")


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU, as far as the runner checks before it opens a session."""
    monkeypatch.setattr(module, "gpus", lambda: [Gpu("a GPU", (9, 0), 1)])


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_without_a_gpu_the_form_does_not_run_here(path, monkeypatch, device):
    monkeypatch.setattr(module, "gpus", list)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: PROVIDERS[device])
    with pytest.raises(NotHere, match=f"{PROVIDERS[device][0]}: this machine has no NVIDIA GPU"):
        opened(path, device)


def test_without_the_provider_the_build_to_install_is_named(path, gpu, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    expected = (
        "CUDAExecutionProvider: .* is built without it; run pip uninstall .* && pip install 'onnxruntime-gpu"
    )
    with pytest.raises(NotHere, match=expected):
        opened(path)


@pytest.mark.skipif(CUDA not in onnxruntime.get_available_providers(), reason="ONNX Runtime for the CPU")
@pytest.mark.skipif(bool(gpus()), reason="the libraries may be installed")
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_library_that_cannot_be_loaded_is_named(path, gpu, device, capfd):
    """ONNX Runtime by itself would run on the CPU and only log why."""
    with pytest.raises(NotHere, match=r"its library cannot be loaded: libcu\w+\.so.*: cannot open") as error:
        opened(path, device)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().out == ""


class Session:
    """A session on CUDA that the CPU runs; it reports `node_counts`."""

    node_counts: ClassVar = {"CUDAExecutionProvider": 3, "CPUExecutionProvider": 1}

    def __init__(self, file, options, providers, enable_fallback):
        assert enable_fallback == 0
        self.providers = providers
        self._session = INFERENCE_SESSION(file, options, providers=["CPUExecutionProvider"])

    def __getattr__(self, name):
        return getattr(self._session, name)

    def get_providers(self):
        return [name for name, _ in self.providers]

    def get_provider_graph_assignment_info(self):
        return [
            SimpleNamespace(ep_name=name, get_nodes=lambda: [None])
            for name, count in self.node_counts.items()
            for _ in range(count)
        ]


INFERENCE_SESSION = onnxruntime.InferenceSession


@pytest.fixture
def cuda(gpu, monkeypatch):
    monkeypatch.setattr(module, "load_libraries", lambda provider: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    return monkeypatch


def test_the_nodes_of_each_provider_are_counted(path, cuda):
    with OnnxRuntimeRunner(path, "cuda") as runner:
        assert runner.node_counts == Session.node_counts
        assert runner.notes == (
            "of 4 nodes ONNX Runtime runs 3 (75%) on CUDAExecutionProvider, 1 (25%) on CPUExecutionProvider",
        )
        assert runner._session.providers == [("CUDAExecutionProvider", {"use_tf32": "0"}), (CPU, {})]
        assert list(runner(FEED)) == ["boxes", "scores", "labels"]


def test_options_replace_the_defaults(path, cuda):
    cuda.setattr(Session, "node_counts", {TENSORRT: 1})
    with OnnxRuntimeRunner(path, "tensorrt", {CUDA: {"use_tf32": "1"}, TENSORRT: {"a": "b"}}) as runner:
        assert runner._session.providers == [(TENSORRT, {"a": "b"}), (CUDA, {"use_tf32": "1"}), (CPU, {})]


def test_a_provider_without_a_node_has_not_run(path, cuda):
    cuda.setattr(Session, "node_counts", {"CPUExecutionProvider": 4})
    with pytest.raises(NotHere, match="CUDAExecutionProvider: it supports no node of the graph"):
        opened(path)


def test_a_session_does_not_fall_back_to_the_cpu(path, cuda):
    cuda.setattr(Session, "get_providers", lambda session: ["CPUExecutionProvider"])
    cuda.setattr(module, "library_error", lambda provider: None)
    with pytest.raises(NotHere, match="CUDAExecutionProvider: it does not start"):
        opened(path)


def test_onnxruntime_before_1_24_does_not_count_nodes(path, cuda):
    cuda.setattr(module, "hasattr", lambda session, name: False, raising=False)
    with OnnxRuntimeRunner(path, "cuda") as runner:
        assert runner.notes == (
            "ONNX Runtime states which nodes run on CUDAExecutionProvider from version 1.24 on",
        )


def test_a_failure_on_the_gpu_is_not_a_crash(path, cuda):
    def fail(session, outputs, inputs, options):
        raise failures.Fail("CUDA failure 2:\n out of memory")

    cuda.setattr(Session, "run", fail, raising=False)
    with (
        OnnxRuntimeRunner(path, "cuda") as runner,
        pytest.raises(NotHere, match="CUDAExecutionProvider: CUDA failure 2: out of memory"),
    ):
        runner(FEED)


def test_onnxruntime_reports_the_provider_of_every_node(path):
    """On the CPU, what the runner reads back on a GPU: nodes of loop bodies are counted too."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(path, options, providers=[CPU])
    if not hasattr(session, "get_provider_graph_assignment_info"):
        pytest.skip("ONNX Runtime before 1.24")
    parts = session.get_provider_graph_assignment_info()
    assert {part.ep_name for part in parts} == {CPU}
    nodes = [node for part in parts for node in part.get_nodes()]
    graph = [node for node in all_nodes(onnx.load(path).graph) if node.op_type != "Constant"]
    assert sorted(node.op_type for node in nodes) == sorted(node.op_type for node in graph)
