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
    """A copy of the engine and its record that a test may damage."""
    _, _, target = built
    copy = tmp_path / target.name
    copy.write_bytes(target.read_bytes())
    sidecar(copy).write_bytes(sidecar(target).read_bytes())
    return copy


def test_an_engine_is_built_without_a_gpu_and_described_by_its_report(built):
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


def test_the_report_is_read_back_from_the_json_file(built):
    report, _, target = built
    assert sidecar(target).name == "tiny.engine.json"
    assert engine_report(target) == report
    assert json.loads(sidecar(target).read_text())["profile"]["height"] == [64, 96, 256]


def test_options_reach_the_builder_configuration():
    builder = trt.Builder(flavour.tensorrt_logger(trt))
    for tf32 in (False, True):
        config = build._config(trt, builder, PROFILE, replace(OPTIONS, tf32=tf32))
        assert config.get_flag(trt.BuilderFlag.TF32) is tf32  # TensorRT's default is true, ours is false
        assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 64 << 20
        assert [
            config.get_compute_capability(i).name for i in range(config.num_compute_capabilities)
        ] == TARGETS
        assert not config.get_flag(trt.BuilderFlag.VERSION_COMPATIBLE)


def test_a_build_killed_between_its_two_files_leaves_no_record(built, engine_file, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "write_json", killed)
    other = Profile(batch=(1, 1, 1), height=(64, 64, 64), width=(64, 64, 64))
    with pytest.raises(KeyboardInterrupt):
        engine_from_onnx(built[1], engine_file, other, targets=["SM86"])
    with pytest.raises(SameboxError, match="no such file; build the engine again"):
        engine_report(engine_file)


def test_fixed_dimensions_of_the_graph_replace_the_ranges_of_the_profile(tmp_path):
    source = tiny_file(tmp_path / "fixed.onnx", batch=1, height=96, width=128)
    report = engine_from_onnx(source, tmp_path / "fixed.engine", PROFILE, targets=["SM89"])
    assert report.profile == Profile(batch=(1, 1, 1), height=(96, 96, 96), width=(128, 128, 128))


def test_a_fixed_dimension_outside_the_profile_is_an_error(tmp_path):
    source = tiny_file(tmp_path / "fixed.onnx", height=512)
    with pytest.raises(SameboxError, match=r"its height is fixed at 512, outside profile\.height=64\.\.256"):
        engine_from_onnx(source, tmp_path / "fixed.engine", PROFILE, targets=TARGETS)
    assert [path.name for path in tmp_path.iterdir()] == ["fixed.onnx"]


@pytest.mark.parametrize("targets", [["SM86", "SM87"], [], ["CURRENT"]])
def test_unknown_targets_are_an_error_that_lists_the_known_ones(built, tmp_path, targets):
    with pytest.raises(SameboxError, match=r"give one or more of SM75, .*SM86, SM89, SM120"):
        engine_from_onnx(built[1], tmp_path / "tiny.engine", PROFILE, targets=targets)


def test_an_unknown_flavour_is_an_error(built, tmp_path):
    with pytest.raises(SameboxError, match="flavour=openvino: unknown; use one of tensorrt_rtx, tensorrt"):
        engine_from_onnx(built[1], tmp_path / "tiny.engine", PROFILE, flavour="openvino")


def test_full_tensorrt_needs_its_package_and_a_gpu_and_takes_no_targets(built, tmp_path, monkeypatch):
    target = tmp_path / "tiny.engine"
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(NotHere, match=r"^TensorRT is not installed: pip install samebox\[tensorrt\]$"):
        engine_from_onnx(built[1], target, PROFILE, flavour="tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", full_tensorrt())
    monkeypatch.setattr(flavour, "gpus", list)
    with pytest.raises(NotHere, match="no GPU here; TensorRT builds on the GPU"):
        engine_from_onnx(built[1], target, PROFILE, flavour="tensorrt")
    with pytest.raises(SameboxError, match="TensorRT builds for the GPU of this machine"):
        engine_from_onnx(built[1], target, PROFILE, flavour="tensorrt", targets=TARGETS)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (
            {"version_compatible": True},
            "^version_compatible=true: .* loads only in the version that built it",
        ),
        (
            {"hardware_compatibility": "ampere_plus"},
            "=ampere_plus: TensorRT-RTX does not support it; .* name the GPUs",
        ),
    ],
)
def test_compatibility_options_of_tensorrt_are_an_error_for_tensorrt_rtx(built, tmp_path, settings, fault):
    with pytest.raises(SameboxError, match=fault):
        engine_from_onnx(built[1], tmp_path / "tiny.engine", PROFILE, targets=TARGETS, **settings)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_level_of_hardware_compatibility_is_an_error(built, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", full_tensorrt())
    with pytest.raises(SameboxError, match="=ada: unknown; use null or one of ampere_plus, same"):
        engine_from_onnx(
            built[1], tmp_path / "tiny.engine", PROFILE, flavour="tensorrt", hardware_compatibility="ada"
        )


def test_compatibility_options_reach_the_builder_configuration():
    config = mock.MagicMock()
    builder = mock.Mock(create_builder_config=lambda: config)
    options = replace(OPTIONS, version_compatible=True, hardware_compatibility="ampere_plus")
    build._config(full_tensorrt(), builder, PROFILE, options)
    config.set_flag.assert_called_once_with(trt.BuilderFlag.VERSION_COMPATIBLE)
    assert config.hardware_compatibility_level == trt.HardwareCompatibilityLevel.AMPERE_PLUS


def file_with_precision_record(path, precision):
    """The tiny fp32 detector with a record that states another precision."""
    model = tiny_model()
    model.metadata_props.add(
        key=PRECISION_KEY, value=json.dumps({"asked": precision, "products": {precision: 1}})
    )
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_a_recorded_precision_that_no_layer_has_is_an_error(tmp_path, precision):
    source = file_with_precision_record(tmp_path / "tiny.onnx", precision)
    with pytest.raises(
        SameboxError, match=rf"tiny\.onnx: it states {precision}, but has fp32 in \d+ layers; create"
    ):
        engine_from_onnx(source, tmp_path / "tiny.engine", PROFILE, targets=TARGETS)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]


@pytest.mark.parametrize(("precision", "name"), [("fp16", "HALF"), ("bf16", "BF16"), ("int8", "INT8")])
def test_the_report_states_the_share_of_each_precision(tmp_path, precision, name):
    source, converted = tiny_precision.tiny_source(tmp_path / "tiny.onnx"), tmp_path / "converted.onnx"
    images = tiny_precision.pictures(tmp_path)
    convert_precision(source, converted, precision, tiny_precision.RULE, images, opset=22)
    small = Profile(batch=(1, 1, 1), height=(32, 64, 64), width=(32, 64, 64))
    report = engine_from_onnx(converted, tmp_path / "tiny.engine", small, targets=["SM89"])
    layers, total = report.types[name], report.types[name] + report.types["FLOAT"]
    assert layers >= 3  # the products and the nodes between them
    assert report.shares[precision] == pytest.approx(layers / total, abs=1e-3)
    assert sum(report.shares.values()) == pytest.approx(1, abs=1e-3)


def test_layer_types_are_read_from_an_engine_that_loads_here(built, tmp_path, monkeypatch):
    information = {
        "Layers": [{"Outputs": [{"Format/Datatype": "Float"}]}, {"Outputs": [{"Format/Datatype": "Int64"}]}]
    }
    opened = mock.MagicMock()
    opened.create_engine_inspector().get_engine_information.return_value = json.dumps(information)
    monkeypatch.setattr(build, "gpus", lambda: [Gpu("NVIDIA Test", (8, 9), 1)])
    monkeypatch.setattr(trt, "Runtime", lambda logger: mock.Mock(deserialize_cuda_engine=lambda plan: opened))
    report = engine_from_onnx(built[1], tmp_path / "tiny.engine", PROFILE, targets=["SM89"])
    assert (report.types, report.types_of) == ({"FLOAT": 1, "INT64": 1}, "engine")
    monkeypatch.setattr(build, "gpus", lambda: [Gpu("NVIDIA Other", (7, 5), 1)])
    report = engine_from_onnx(built[1], tmp_path / "tiny.engine", PROFILE, targets=["SM89"])
    assert report.types_of == "network"


def test_an_error_of_the_builder_is_reported(tmp_path):
    source = tiny_file(tmp_path / "tiny.onnx")
    small = Profile(batch=(1, 1, 1), height=(8, 8, 8), width=(8, 8, 8))  # 3 scores, and TopK takes 8
    with pytest.raises(SameboxError, match=r"tiny\.onnx: TensorRT-RTX cannot build it: .*TopK"):
        engine_from_onnx(source, tmp_path / "tiny.engine", small, targets=TARGETS)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]


def test_messages_go_to_logging_and_not_to_stdout(built, tmp_path, caplog, capfd):
    with caplog.at_level("DEBUG", logger="samebox.engine"):
        engine_from_onnx(built[1], tmp_path / "tiny.engine", PROFILE, targets=["SM86"])
    assert any("tensorrt_rtx" in message for message in caplog.messages)
    assert capfd.readouterr().out == ""
