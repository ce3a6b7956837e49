import json

import onnx
import pytest
from tiny_onnx import METADATA, tiny_file

import samebox.engine.session
from samebox.core.errors import SameboxError
from samebox.engine.profile import Profile
from samebox.engine.providers import CUDA, PROVIDERS, TENSORRT
from samebox.engine.session import SESSION_KEY, session_from_file, session_from_onnx
from samebox.graph.reading import metadata

PROFILE = Profile((1, 2, 4), (32, 64, 96), (32, 96, 96))


def session_file(folder, device="tensorrt", tf32=False, **dimensions):
    source = tiny_file(folder / "tiny.onnx", **dimensions)
    session_from_onnx(source, folder / "session.onnx", device, PROFILE, workspace_mb=64, tf32=tf32)
    return folder / "session.onnx"


def test_only_the_session_settings_are_added_to_the_file(tmp_path):
    path = session_file(tmp_path)
    model, source = onnx.load(path), onnx.load(tmp_path / "tiny.onnx")
    assert set(metadata(model)) == {"samebox", SESSION_KEY}
    assert metadata(model)["samebox"] == METADATA
    assert model.graph == source.graph
    assert session_file(tmp_path).read_bytes() == path.read_bytes()


def test_the_profile_becomes_options_of_the_tensorrt_provider(tmp_path):
    options = session_from_file(session_file(tmp_path), tmp_path / "cache").options
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


def test_the_cuda_device_has_no_tensorrt_options(tmp_path):
    path = session_file(tmp_path, device="cuda", tf32=True)
    assert session_from_file(path, tmp_path / "cache").options == {CUDA: {"use_tf32": "1"}}
    assert not (tmp_path / "cache").exists()


def test_each_file_and_installation_has_an_engine_cache(tmp_path, monkeypatch):
    """ONNX Runtime's own key ignores the weights."""

    def cache_folder():
        return session_from_file(path, tmp_path).options[TENSORRT]["trt_engine_cache_path"]

    path = session_file(tmp_path)
    first = cache_folder()
    assert cache_folder() == first
    session_file(tmp_path, bias=1.0)
    other_weights = cache_folder()
    monkeypatch.setattr(samebox.engine.session, "versions", lambda: {"tensorrt": "another"})
    assert len({first, other_weights, cache_folder()}) == 3


def test_fixed_dimensions_replace_profile_ranges_and_must_lie_within_them(tmp_path):
    session = json.loads(metadata(onnx.load(session_file(tmp_path, batch=2)))[SESSION_KEY])
    assert session["options"][TENSORRT]["trt_profile_min_shapes"] == "images:2x3x32x32,sizes:2x2"
    with pytest.raises(SameboxError, match=r"its batch is fixed at 8, outside profile\.batch=1\.\.4"):
        session_file(tmp_path, batch=8)


def test_a_file_without_session_settings_is_an_error(tmp_path):
    with pytest.raises(SameboxError, match=r"tiny\.onnx: it contains no settings for a session; the stage"):
        session_from_file(tiny_file(tmp_path / "tiny.onnx"), tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"device": "tensorrt", "options": {TENSORRT: {"trt_engine_cache_path": "/etc"}}},
        {"device": "cuda", "options": {"OtherExecutionProvider": {"library": "evil.so"}}},
        {"device": "cpu", "options": {}},
        {"device": "cuda", "options": []},
        [],
    ],
)
def test_settings_that_samebox_does_not_write_are_an_error(tmp_path, settings):
    path = session_file(tmp_path)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {SESSION_KEY: json.dumps(settings)})
    onnx.save(model, path)
    with pytest.raises(SameboxError, match=r"session\.onnx: its settings of a session are damaged"):
        session_from_file(path, tmp_path / "cache")
