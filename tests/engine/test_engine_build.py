import json
import sys
from dataclasses import replace
from unittest import mock

import onnx
import pytest
import tiny_precision
from tiny_engine import TARGETS, full_tensorrt
from tiny_onnx import METADATA, tiny_file, tiny_model

from samebox.core.errors import NotHere, SameboxError
from samebox.core.files import sha256
from samebox.core.gpu import Gpu
from samebox.engine import build, flavour
from samebox.engine.build import engine_from_onnx
from samebox.engine.profile import Profile
from samebox.engine.record import engine_report, sidecar
from samebox.precision.convert import convert_precision
from samebox.record.spec import PRECISION_KEY

trt = pytest.importorskip("tensorrt_rtx")

PROFILE = Profile(batch=(1, 2, 4), height=(64, 96, 256), width=(64, 128, 256))
OPTIONS = build._Options(TARGETS, workspace_mb=64, tf32=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    source, target = tiny_file(folder / "tiny.onnx"), folder / "tiny.engine"
    return engine_from_onnx(source, target, PROFILE, targets=TARGETS, workspace_mb=256), source, target


@pytest.fixture
def engine_file(built, tmp_path):
    """A copy of the pair, to be damaged."""
    _, _, target = built
    copy = tmp_path / target.name
    copy.write_bytes(target.read_bytes())
    sidecar(copy).write_bytes(sidecar(target).read_bytes())
    return copy


def test_an_engine_is_built_without_a_gpu_and_says_what_it_is(built):
    report, source, target = built
    assert report.flavour == "tensorrt_rtx"
    assert report.version == trt.__version__
    assert (report.targets, report.profile) == (TARGETS, PROFILE)
    assert (report.opset, report.tf32, report.workspace_mb) == (18, False, 256)
    assert report.layers > 20
    assert report.types["FLOAT"] > 2
    assert 20 < sum(report.types.values()) <= report.layers
    assert (report.types_of, report.shares) == ("network", {"fp32": 1.0})
    assert 0 < report.build_seconds < 60
    assert report.plan_bytes == target.stat().st_size > 1000
    assert report.plan_sha256 == sha256(target)
    assert report.onnx_sha256 == sha256(source)
    assert report.metadata == {"samebox": METADATA}
    if sys.platform == "linux":
        assert 50 < report.peak_memory_mb < 10_000


def test_the_json_file_alone_gives_the_report(built):
    report, _, target = built
    assert sidecar(target).name == "tiny.engine.json"
    assert engine_report(target) == report
    assert json.loads(sidecar(target).read_text())["profile"]["height"] == [64, 96, 256]


def test_a_build_is_configured_as_asked():
    builder = trt.Builder(flavour.tensorrt_logger(trt))
    for tf32 in (False, True):
        config = build._config(trt, builder, PROFILE, replace(OPTIONS, tf32=tf32))
        assert config.get_flag(trt.BuilderFlag.TF32) is tf32  # fp32 is fp32 unless asked otherwise
        assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 64 << 20
        assert [
            config.get_compute_capability(i).name for i in range(config.num_compute_capabilities)
        ] == TARGETS
        assert not config.get_flag(trt.BuilderFlag.VERSION_COMPATIBLE)


def test_a_build_killed_between_its_two_files_leaves_no_pair(built, engine_file, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "write_json", killed)
    other = Profile(batch=(1, 1, 1), height=(64, 64, 64), width=(64, 64, 64))
    with pytest.raises(KeyboardInterrupt):
        engine_from_onnx(built[1], engine_file, other, targets=["SM86"])
    with pytest.raises(SameboxError, match="no such file; build the engine anew"):
        engine_report(engine_file)


def test_fixed_dimensions_are_taken_from_the_graph(tmp_path):
    source = tiny_file(tmp_path / "fixed.onnx", batch=1, height=96, width=128)
    report = engine_from_onnx(source, tmp_path / "fixed.engine", PROFILE, targets=["SM89"])
    assert report.profile == Profile(batch=(1, 1, 1), height=(96, 96, 96), width=(128, 128, 128))


def test_a_fixed_dimension_outside_the_profile_is_refused(tmp_path):
    source = tiny_file(tmp_path / "fixed.onnx", height=512)
    with pytest.raises(SameboxError, match=r"its height is fixed at 512, outside profile\.height=64\.\.256"):
        engine_from_onnx(source, tmp_path / "fixed.engine", PROFILE, targets=TARGETS)
    assert [path.name for path in tmp_path.iterdir()] == ["fixed.onnx"]


@pytest.mark.parametrize("targets", [["SM86", "SM87"], [], ["CURRENT"]])
def test_unknown_targets_are_refused_and_the_known_ones_named(built, tmp_path, targets):
    with pytest.raises(SameboxError, match=r"give one or more of SM75, .*SM86, SM89, SM120"):
        engine_from_onnx(built[1], tmp_path / "tiny.engine", PROFILE, targets=targets)


def test_an_unknown_flavour_is_refused(built, tmp_path):
    with pytest.raises(SameboxError, match="flavour=openvino: unknown; take one of tensorrt_rtx, tensorrt"):
        engine_from_onnx(built[1], tmp_path / "tiny.engine", PROFILE, flavour="openvino")


def test_full_tensorrt_says_what_it_lacks(built, tmp_path, monkeypatch):
    target = tmp_path / "tiny.engine"
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(NotHere, match=r"^TensorRT is not installed: pip install samebox\[tensorrt\]$"):
        engine_from_onnx(built[1], target, PROFILE, flavour="tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", full_tensorrt())
    monkeypatch.setattr(flavour, "gpus", list)
    with pytest.raises(NotHere, match="no GPU here; TensorRT builds on the one"):
        engine_from_onnx(built[1], target, PROFILE, flavour="tensorrt")
    with pytest.raises(SameboxError, match="TensorRT builds for the GPU here"):
        engine_from_onnx(built[1], target, PROFILE, flavour="tensorrt", targets=TARGETS)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (
            {"version_compatible": True},
            "^version_compatible=true: .* loads in its own version alone",
        ),
        ({"hardware_compatibility": "ampere_plus"}, "=ampere_plus: TensorRT-RTX has none; .* name the GPUs"),
    ],
)
def test_tensorrt_rtx_refuses_the_compatibilities_that_it_lacks(built, tmp_path, settings, fault):
    with pytest.raises(SameboxError, match=fault):
        engine_from_onnx(built[1], tmp_path / "tiny.engine", PROFILE, targets=TARGETS, **settings)
    assert list(tmp_path.iterdir()) == []


def test_full_tensorrt_takes_its_levels_of_compatibility_alone(built, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", full_tensorrt())
    with pytest.raises(SameboxError, match="=ada: unknown; take null or one of ampere_plus, same"):
        engine_from_onnx(
            built[1], tmp_path / "tiny.engine", PROFILE, flavour="tensorrt", hardware_compatibility="ada"
        )


def test_compatibilities_reach_full_tensorrt():
    config = mock.MagicMock()
    builder = mock.Mock(create_builder_config=lambda: config)
    options = replace(OPTIONS, version_compatible=True, hardware_compatibility="ampere_plus")
    build._config(full_tensorrt(), builder, PROFILE, options)
    config.set_flag.assert_called_once_with(trt.BuilderFlag.VERSION_COMPATIBLE)
    assert config.hardware_compatibility_level == trt.HardwareCompatibilityLevel.AMPERE_PLUS


def recorded(path, asked):
    """The tiny detector, in fp32, whose record says that it is in another precision."""
    model = tiny_model()
    model.metadata_props.add(key=PRECISION_KEY, value=json.dumps({"asked": asked, "products": {asked: 1}}))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("asked", ["fp16", "bf16", "int8"])
def test_a_precision_that_no_layer_has_is_an_error(tmp_path, asked):
    source = recorded(tmp_path / "tiny.onnx", asked)
    with pytest.raises(SameboxError, match=rf"tiny\.onnx: asked {asked} but got fp32 in \d+ layers; make"):
        engine_from_onnx(source, tmp_path / "tiny.engine", PROFILE, targets=TARGETS)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]


@pytest.mark.parametrize(("precision", "name"), [("fp16", "HALF"), ("bf16", "BF16"), ("int8", "INT8")])
def test_a_precision_that_layers_have_is_told_with_its_share(tmp_path, precision, name):
    source, precise = tiny_precision.tiny_source(tmp_path / "tiny.onnx"), tmp_path / "precise.onnx"
    images = tiny_precision.pictures(tmp_path)
    convert_precision(source, precise, precision, tiny_precision.RULE, images, opset=22)
    small = Profile(batch=(1, 1, 1), height=(32, 64, 64), width=(32, 64, 64))
    report = engine_from_onnx(precise, tmp_path / "tiny.engine", small, targets=["SM89"])
    smaller, whole = report.types[name], report.types[name] + report.types["FLOAT"]
    assert smaller >= 3  # the products, and what lies between them
    assert report.shares[precision] == pytest.approx(smaller / whole, abs=1e-3)
    assert sum(report.shares.values()) == pytest.approx(1, abs=1e-3)


def test_where_the_engine_opens_the_types_are_its_own(built, tmp_path, monkeypatch):
    told = {
        "Layers": [{"Outputs": [{"Format/Datatype": "Float"}]}, {"Outputs": [{"Format/Datatype": "Int64"}]}]
    }
    opened = mock.MagicMock()
    opened.create_engine_inspector().get_engine_information.return_value = json.dumps(told)
    monkeypatch.setattr(build, "gpus", lambda: [Gpu("NVIDIA Test", (8, 9), 1)])
    monkeypatch.setattr(trt, "Runtime", lambda logger: mock.Mock(deserialize_cuda_engine=lambda plan: opened))
    report = engine_from_onnx(built[1], tmp_path / "tiny.engine", PROFILE, targets=["SM89"])
    assert (report.types, report.types_of) == ({"FLOAT": 1, "INT64": 1}, "engine")
    monkeypatch.setattr(build, "gpus", lambda: [Gpu("NVIDIA Other", (7, 5), 1)])
    report = engine_from_onnx(built[1], tmp_path / "tiny.engine", PROFILE, targets=["SM89"])
    assert report.types_of == "network"


def test_what_the_builder_finds_is_told(tmp_path):
    source = tiny_file(tmp_path / "tiny.onnx")
    small = Profile(batch=(1, 1, 1), height=(8, 8, 8), width=(8, 8, 8))  # 3 scores, of which 8 are wanted
    with pytest.raises(SameboxError, match=r"tiny\.onnx: TensorRT-RTX does not build it: .*TopK"):
        engine_from_onnx(source, tmp_path / "tiny.engine", small, targets=TARGETS)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]


def test_messages_go_to_logging_alone(built, tmp_path, caplog, capfd):
    with caplog.at_level("DEBUG", logger="samebox.engine"):
        engine_from_onnx(built[1], tmp_path / "tiny.engine", PROFILE, targets=["SM86"])
    assert any("tensorrt_rtx" in message for message in caplog.messages)
    assert capfd.readouterr().out == ""
