import numpy as np
import onnx
import onnxruntime
import pytest
from tiny_onnx import METADATA, tiny_file, tiny_model

from samebox.engine import NotHere
from samebox.errors import SameboxError
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
    with pytest.raises(SameboxError, match="device: 'gpu' is none of cpu, cuda"):
        OnnxRuntimeRunner(tiny_file(tmp_path / "tiny.onnx"), device="gpu")


def test_there_is_no_falling_back_to_the_cpu(tmp_path, monkeypatch):
    """Where CUDA is missing ONNX Runtime would run on the CPU and only log it."""
    path = tiny_file(tmp_path / "tiny.onnx")
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda file, options, providers: session(file, options, providers=["CPUExecutionProvider"]),
    )
    with pytest.raises(NotHere, match="CUDAExecutionProvider: no NVIDIA GPU that ONNX Runtime can use here"):
        OnnxRuntimeRunner(path, device="cuda").__enter__()
