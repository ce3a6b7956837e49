import json
import sys

import onnx
import pytest
from onnx import helper
from tiny_onnx import METADATA, tiny_file, tiny_model

from samebox import engine
from samebox.engine import NotHere, Profile, check_loadable, engine_from_onnx, engine_report, sidecar
from samebox.errors import SameboxError
from samebox.files import sha256
from samebox.gpu import Gpu

trt = pytest.importorskip("tensorrt_rtx")

PROFILE = Profile(batch=(1, 2, 4), height=(64, 96, 256), width=(64, 128, 256))
TARGETS = ["SM86", "SM89", "SM120"]


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


def test_fp32_is_fp32_unless_asked_otherwise():
    builder = trt.Builder(engine.tensorrt_logger(trt))
    for tf32 in (False, True):
        config = engine._config(trt, builder, PROFILE, TARGETS, workspace_mb=64, tf32=tf32)
        assert config.get_flag(trt.BuilderFlag.TF32) is tf32
        assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 64 << 20
        assert [
            config.get_compute_capability(i).name for i in range(config.num_compute_capabilities)
        ] == TARGETS


def test_a_plan_of_another_build_is_refused(engine_file):
    engine_file.write_bytes(engine_file.read_bytes() + b"\0")
    with pytest.raises(SameboxError, match=r"not the plan that tiny\.engine\.json records; build"):
        engine_report(engine_file)


@pytest.mark.parametrize("text", ["{}", "[]", '{"profile": {}}'])
def test_a_json_file_of_another_kind_is_refused(engine_file, text):
    sidecar(engine_file).write_text(text)
    with pytest.raises(SameboxError, match="not the record of an engine"):
        engine_report(engine_file)


def test_half_a_pair_is_refused(engine_file):
    sidecar(engine_file).unlink()
    with pytest.raises(SameboxError, match=r"tiny\.engine\.json: no such file; build the engine anew"):
        engine_report(engine_file)
    engine_file.unlink()
    with pytest.raises(SameboxError, match=r"tiny\.engine: no such file"):
        engine_report(engine_file)


def test_a_build_killed_between_its_two_files_leaves_no_pair(built, engine_file, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "write_json", killed)
    other = Profile(batch=(1, 1, 1), height=(64, 64, 64), width=(64, 64, 64))
    with pytest.raises(KeyboardInterrupt):
        engine_from_onnx(built[1], engine_file, other, targets=["SM86"])
    with pytest.raises(SameboxError, match="no such file; build the engine anew"):
        engine_report(engine_file)


@pytest.mark.parametrize("height", [(2, 1, 3), (1, 4, 3), (0, 1, 2), (1, 2), (3, 2, 1)])
def test_a_profile_out_of_order_is_refused(height):
    with pytest.raises(SameboxError, match=r"profile\.height=\[.*\]: give \[least, usual, largest\]"):
        Profile(batch=(1, 1, 1), height=height, width=(1, 1, 1))


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
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setattr(engine, "gpus", list)
    with pytest.raises(NotHere, match="no GPU here; TensorRT builds on the one"):
        engine_from_onnx(built[1], target, PROFILE, flavour="tensorrt")
    with pytest.raises(SameboxError, match="TensorRT builds for the GPU here"):
        engine_from_onnx(built[1], target, PROFILE, flavour="tensorrt", targets=TARGETS)


def with_nodes(path, *nodes, **constants):
    """The tiny detector with more nodes, whose results nothing uses."""
    model = tiny_model()
    model.graph.node.extend(nodes)
    for name, value in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(onnx.numpy_helper.np.array(value), name))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("operator", ["NonMaxSuppression", "RoiAlign", "NonZero", "DeformConv"])
def test_operators_that_tensorrt_does_not_take_are_named_with_the_mend(tmp_path, operator):
    node = helper.make_node(operator, ["chances"], ["found"], name="node_x")
    source = with_nodes(tmp_path / "model.onnx", node)
    with pytest.raises(SameboxError) as refused:
        engine_from_onnx(source, tmp_path / "model.engine", PROFILE, targets=TARGETS)
    assert str(refused.value) == (
        f"{source}: 1 node does not parse: node_x ({operator}): not an operator of TensorRT-RTX; "
        "export with export.lowering=portable"
    )


def test_a_large_topk_is_found_inside_a_loop(tmp_path):
    model = tiny_model()
    body = next(node for node in model.graph.node if node.op_type == "Loop").attribute[0].g
    body.node.append(helper.make_node("Constant", [], ["many"], value_ints=[3841]))
    body.node.append(helper.make_node("TopK", ["s", "many"], ["values", "places"], name="node_topk"))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(SameboxError, match=r"node_topk \(TopK\): K=3841 is above 3840; export with"):
        engine_from_onnx(tmp_path / "model.onnx", tmp_path / "model.engine", PROFILE, targets=TARGETS)


def test_what_the_parser_finds_is_told_by_node(tmp_path):
    scatter = helper.make_node(
        "ScatterND", ["best", "indices", "updates"], ["o"], name="node_scatter", reduction="add"
    )
    unique = helper.make_node("Unique", ["best"], ["u"], name="node_unique")
    source = with_nodes(tmp_path / "model.onnx", scatter, unique, indices=[[0, 0]], updates=[1.0])
    with pytest.raises(SameboxError) as refused:
        engine_from_onnx(source, tmp_path / "model.engine", PROFILE, targets=TARGETS)
    message = str(refused.value)
    assert (
        "2 nodes do not parse: node_unique (Unique): not an operator of TensorRT-RTX; node_scatter" in message
    )
    assert "node_scatter (ScatterND): " in message
    assert message.endswith("do without the operators that have no portable form")
    assert "\n" not in message


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


@pytest.mark.parametrize(
    ("gpu", "version", "fault"),
    [
        ([], None, "no GPU here"),
        ([Gpu("old", (7, 0), 1)], None, "runs on SM86, SM89, SM120, and the GPU here is SM70"),
        ([Gpu("fit", (8, 9), 1)], "0.1", "the engine is of TensorRT-RTX .*, and 0.1 is installed"),
    ],
)
def test_an_engine_that_does_not_load_here_says_why(built, monkeypatch, gpu, version, fault):
    monkeypatch.setattr(engine, "gpus", lambda: gpu)
    if version:
        monkeypatch.setattr(trt, "__version__", version)
    with pytest.raises(NotHere, match=fault):
        check_loadable(built[0])


def test_an_engine_loads_on_its_targets(built, monkeypatch):
    monkeypatch.setattr(engine, "gpus", lambda: [Gpu("fit", (12, 0), 1)])
    check_loadable(built[0])
