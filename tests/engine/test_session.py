import json

import onnx
import pytest
from tiny_onnx import METADATA, tiny_file

import samebox.engine.session
from samebox.core.errors import SameboxError
from samebox.engine.profile import Profile
from samebox.engine.providers import CUDA, PROVIDERS, TENSORRT
from samebox.engine.session import SESSION_KEY, session_from_onnx, session_of
from samebox.graph.reading import metadata

PROFILE = Profile((1, 2, 4), (32, 64, 96), (32, 96, 96))


def made(folder, device="tensorrt", tf32=False, **dimensions):
    source = tiny_file(folder / "tiny.onnx", **dimensions)
    session_from_onnx(source, folder / "made.onnx", device, PROFILE, workspace_mb=64, tf32=tf32)
    return folder / "made.onnx"


def test_the_file_carries_its_session_beside_its_record_and_is_otherwise_the_same(tmp_path):
    path = made(tmp_path)
    model, source = onnx.load(path), onnx.load(tmp_path / "tiny.onnx")
    assert set(metadata(model)) == {"samebox", SESSION_KEY}
    assert metadata(model)["samebox"] == METADATA
    assert model.graph == source.graph
    assert made(tmp_path).read_bytes() == path.read_bytes()


def test_tensorrts_profile_is_told_in_the_words_of_onnxruntime(tmp_path):
    options = session_of(made(tmp_path), tmp_path / "cache").options
    assert set(options) <= set(PROVIDERS["tensorrt"])
    assert options[CUDA] == {"use_tf32": "0"}
    cache = options[TENSORRT].pop("trt_engine_cache_path")
    assert cache.startswith(str(tmp_path / "cache"))
    assert options[TENSORRT] == {
        "trt_max_workspace_size": str(64 * 1024 * 1024),
        "trt_profile_min_shapes": "images:1x3x32x32,sizes:1x2",
        "trt_profile_opt_shapes": "images:2x3x64x96,sizes:2x2",
        "trt_profile_max_shapes": "images:4x3x96x96,sizes:4x2",
        "trt_engine_cache_enable": "1",
    }


def test_cuda_has_no_options_of_tensorrts(tmp_path):
    path = made(tmp_path, device="cuda", tf32=True)
    assert session_of(path, tmp_path / "cache").options == {CUDA: {"use_tf32": "1"}}
    assert not (tmp_path / "cache").exists()


def test_an_engine_in_the_cache_is_of_one_file_and_one_installation(tmp_path, monkeypatch):
    """ONNX Runtime's own key has nothing of the weights."""

    def place():
        return session_of(path, tmp_path).options[TENSORRT]["trt_engine_cache_path"]

    path = made(tmp_path)
    first = place()
    assert place() == first
    made(tmp_path, bias=1.0)
    other_weights = place()
    monkeypatch.setattr(samebox.engine.session, "versions", lambda: {"tensorrt": "another"})
    assert len({first, other_weights, place()}) == 3


def test_a_profile_yields_to_what_the_graph_fixes_and_must_not_contradict_it(tmp_path):
    session = json.loads(metadata(onnx.load(made(tmp_path, batch=2)))[SESSION_KEY])
    assert session["options"][TENSORRT]["trt_profile_min_shapes"] == "images:2x3x32x32,sizes:2x2"
    with pytest.raises(SameboxError, match=r"its batch is fixed at 8, outside profile\.batch=1\.\.4"):
        made(tmp_path, batch=8)


def test_a_file_that_names_no_session_is_told_so(tmp_path):
    with pytest.raises(SameboxError, match=r"tiny\.onnx: names no session of ONNX Runtime; run the stage"):
        session_of(tiny_file(tmp_path / "tiny.onnx"), tmp_path)
