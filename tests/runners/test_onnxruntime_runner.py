from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import onnx
import onnxruntime
import pytest
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


def test_a_file_answers_by_name_with_its_own_metadata(tmp_path):
    path = tiny_file(tmp_path / "tiny.onnx")
    with OnnxRuntimeRunner(path) as runner:
        assert runner.metadata == {"samebox": METADATA}
        assert (runner.name, runner.batch) == (str(path), None)
        found = runner(FEED)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert list(found) == ["boxes", "scores", "labels"]
    for name, expected in zip(found, session.run(None, FEED), strict=True):
        np.testing.assert_array_equal(found[name], expected)


def test_a_graph_of_one_batch_says_so(tmp_path):
    with OnnxRuntimeRunner(tiny_file(tmp_path / "tiny.onnx", batch=2, height=64, width=96)) as runner:
        assert runner.batch == 2
        assert runner(FEED)["scores"].shape == (2, 8)
        alone = {name: value[:1] for name, value in FEED.items()}
        with pytest.raises(SameboxError, match=r"tiny\.onnx: .*[Gg]ot: 1 Expected: 2"):
            runner(alone)


def test_the_session_lives_within_the_block(tmp_path):
    with OnnxRuntimeRunner(tiny_file(tmp_path / "tiny.onnx")) as runner:
        pass
    with pytest.raises(AttributeError):
        runner(FEED)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(SameboxError, match=r"none\.onnx: no such file"):
        OnnxRuntimeRunner(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    "damage", ["truncated", "text", "empty", "folder", "weights of no graph", "no operator"]
)
def test_what_onnxruntime_does_not_load_is_told_in_one_line(tmp_path, damage):
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
    with pytest.raises(SameboxError, match=r"broken\.onnx: ONNX Runtime does not load it") as told:
        OnnxRuntimeRunner(path).__enter__()
    assert "\n" not in str(told.value)


def test_a_device_of_another_name_is_refused(tmp_path):
    with pytest.raises(SameboxError, match="device: 'gpu' is none of cpu, cuda, tensorrt"):
        OnnxRuntimeRunner(tiny_file(tmp_path / "tiny.onnx"), device="gpu")


def opened(path, device="cuda"):
    return OnnxRuntimeRunner(path, device).__enter__()


@pytest.fixture
def path(tmp_path):
    return tiny_file(tmp_path / "tiny.onnx")


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU, as far as is asked before a session is opened."""
    monkeypatch.setattr(module, "gpus", lambda: [Gpu("a GPU", (9, 0), 1)])


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_without_a_gpu_there_is_no_session(path, monkeypatch, device):
    monkeypatch.setattr(module, "gpus", list)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: PROVIDERS[device])
    with pytest.raises(NotHere, match=f"{PROVIDERS[device][0]}: no NVIDIA GPU here"):
        opened(path, device)


def test_a_provider_that_the_package_lacks_is_said_to_be_lacking(path, gpu, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(NotHere, match="CUDAExecutionProvider: the installed ONNX Runtime is without it"):
        opened(path)


@pytest.mark.skipif(CUDA not in onnxruntime.get_available_providers(), reason="ONNX Runtime for the CPU")
@pytest.mark.skipif(bool(gpus()), reason="the libraries may be here")
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_library_that_does_not_load_is_named(path, gpu, device, capfd):
    """ONNX Runtime itself would run on the CPU and only log why."""
    with pytest.raises(NotHere, match=r"its library does not load: libcu\w+\.so.*: cannot open") as told:
        opened(path, device)
    assert "\n" not in str(told.value)
    assert capfd.readouterr().out == ""


class Session:
    """A session on CUDA, run by the CPU; of its nodes `placed` are where it says."""

    placed: ClassVar = {"CUDAExecutionProvider": 3, "CPUExecutionProvider": 1}

    def __init__(self, file, options, providers, enable_fallback):
        assert enable_fallback == 0
        self.asked = providers
        self._session = INFERENCE_SESSION(file, options, providers=["CPUExecutionProvider"])

    def __getattr__(self, name):
        return getattr(self._session, name)

    def get_providers(self):
        return [name for name, _ in self.asked]

    def get_provider_graph_assignment_info(self):
        return [
            SimpleNamespace(ep_name=name, get_nodes=lambda: [None])
            for name, count in self.placed.items()
            for _ in range(count)
        ]


INFERENCE_SESSION = onnxruntime.InferenceSession


@pytest.fixture
def cuda(gpu, monkeypatch):
    monkeypatch.setattr(module, "prepare", lambda provider: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    return monkeypatch


def test_where_nodes_run_is_read_back(path, cuda):
    with OnnxRuntimeRunner(path, "cuda") as runner:
        assert runner.placed == Session.placed
        assert runner.notes == (
            "of 4 nodes ONNX Runtime runs 3 (75%) on CUDAExecutionProvider, 1 (25%) on CPUExecutionProvider",
        )
        assert runner._session.asked == [("CUDAExecutionProvider", {"use_tf32": "0"}), (CPU, {})]
        assert list(runner(FEED)) == ["boxes", "scores", "labels"]


def test_options_take_the_place_of_the_runners_own(path, cuda):
    cuda.setattr(Session, "placed", {TENSORRT: 1})
    with OnnxRuntimeRunner(path, "tensorrt", {CUDA: {"use_tf32": "1"}, TENSORRT: {"a": "b"}}) as runner:
        assert runner._session.asked == [(TENSORRT, {"a": "b"}), (CUDA, {"use_tf32": "1"}), (CPU, {})]


def test_a_provider_that_takes_no_node_is_not_said_to_have_run(path, cuda):
    cuda.setattr(Session, "placed", {"CPUExecutionProvider": 4})
    with pytest.raises(NotHere, match="CUDAExecutionProvider: it takes no node of the graph"):
        opened(path)


def test_there_is_no_falling_back_to_the_cpu(path, cuda):
    cuda.setattr(Session, "get_providers", lambda session: ["CPUExecutionProvider"])
    cuda.setattr(module, "library_error", lambda provider: None)
    with pytest.raises(NotHere, match="CUDAExecutionProvider: it does not start here"):
        opened(path)


def test_an_older_onnxruntime_does_not_tell_where_nodes_run(path, cuda):
    cuda.setattr(module, "hasattr", lambda session, name: False, raising=False)
    with OnnxRuntimeRunner(path, "cuda") as runner:
        assert runner.notes == (
            "which nodes run on CUDAExecutionProvider is told by ONNX Runtime from 1.24 on",
        )


def test_what_fails_on_the_gpu_is_the_reason_and_no_crash(path, cuda):
    def fails(session, outputs, inputs):
        raise failures.Fail("CUDA failure 2:\n out of memory")

    cuda.setattr(Session, "run", fails, raising=False)
    with (
        OnnxRuntimeRunner(path, "cuda") as runner,
        pytest.raises(NotHere, match="CUDAExecutionProvider: CUDA failure 2: out of memory"),
    ):
        runner(FEED)


def test_onnxruntime_itself_tells_where_every_node_runs(path):
    """What the runner reads back of a GPU, of the CPU: nodes of loops are counted too."""
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
