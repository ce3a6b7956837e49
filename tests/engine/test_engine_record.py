import json
import sys

import pytest
from tiny_engine import full_tensorrt, record

from samebox.core.errors import NotHere, SameboxError
from samebox.core.gpu import Gpu
from samebox.engine import flavour
from samebox.engine.record import check_loadable, engine_report, sidecar

trt = pytest.importorskip("tensorrt_rtx")


@pytest.fixture
def engine_file(tmp_path):
    path = tmp_path / "tiny.engine"
    record(path)
    return path


def test_a_plan_of_another_build_is_an_error(engine_file):
    engine_file.write_bytes(engine_file.read_bytes() + b"\0")
    with pytest.raises(SameboxError, match=r"not the plan that tiny\.engine\.json records; build"):
        engine_report(engine_file)


@pytest.mark.parametrize("text", ["{}", "[]", '{"profile": {}}', "[" * 200_000])
def test_another_kind_of_json_file_is_an_error(engine_file, text):
    sidecar(engine_file).write_text(text)
    with pytest.raises(SameboxError, match=r"not the record of an engine|not JSON"):
        engine_report(engine_file)


@pytest.mark.parametrize(
    "change",
    [
        {"flavour": "os"},
        {"flavour": ["tensorrt"]},
        {"version": "9" * 5000},
        {"version": ""},
        {"targets": "SM86"},
        {"profile": {"batch": [1, 1, 2**40], "height": [32, 32, 32], "width": [32, 32, 32]}},
        {"profile": {"batch": [1, 1, 1], "height": [32, 32], "width": [32, 32, 32]}},
        {"profile": {"batch": [1, 1, 1], "height": [32, 32, 2**40], "width": [32, 32, 32]}},
        {"metadata": {"samebox": {}}},
        {"metadata": []},
        {"version_compatible": "yes"},
        {"layers": 1e400},
    ],
    ids=str,
)
def test_values_of_other_types_and_out_of_range_are_errors(engine_file, change):
    sidecar(engine_file).write_text(json.dumps(json.loads(sidecar(engine_file).read_text()) | change))
    with pytest.raises(SameboxError, match=r"tiny\.engine\.json: not the record of an engine \(") as error:
        engine_report(engine_file)
    assert len(str(error.value)) < 400


def test_a_missing_engine_or_record_is_an_error(engine_file):
    sidecar(engine_file).unlink()
    with pytest.raises(SameboxError, match=r"tiny\.engine\.json: no such file; build the engine again"):
        engine_report(engine_file)
    engine_file.unlink()
    with pytest.raises(SameboxError, match=r"tiny\.engine: no such file"):
        engine_report(engine_file)


@pytest.fixture
def machine(monkeypatch):
    """A function that sets the GPUs of this machine and the installed versions of both flavours."""

    def set_up(*capabilities, full=None, rtx=None):
        available = [Gpu("NVIDIA Test", capability, 1) for capability in capabilities]
        monkeypatch.setattr(flavour, "gpus", lambda: available)
        monkeypatch.setitem(sys.modules, "tensorrt", full and full_tensorrt(full))
        if rtx:
            monkeypatch.setattr(trt, "__version__", rtx)

    return set_up


def test_the_reason_why_an_engine_does_not_load_here(tmp_path, machine):
    report = record(tmp_path / "tiny.engine")
    machine()
    with pytest.raises(NotHere, match=r"^no GPU here; TensorRT-RTX needs an NVIDIA GPU and its driver$"):
        check_loadable(report)
    machine((7, 0))
    with pytest.raises(NotHere, match=r"^the engine runs on SM86, SM89, SM120, and the GPU here is SM70$"):
        check_loadable(report)
    machine((8, 9), rtx="0.1")
    with pytest.raises(
        NotHere, match=r"^the engine was built by TensorRT-RTX 1[\d.]+, and 0\.1 is installed$"
    ):
        check_loadable(report)


def test_an_engine_loads_on_its_targets(tmp_path, machine):
    machine((12, 0))
    check_loadable(record(tmp_path / "tiny.engine"))


@pytest.mark.parametrize(
    ("built", "installed", "loads"),
    [
        ("10.13.3.9", "10.13.3.9", True),
        ("10.13.3.9", "10.14.0.1", True),
        ("10.13.3.9", "11.1.0.2", True),
        ("10.13.3.9", "10.9.0.34", False),
        ("11.0.0.1", "10.16.1.2", False),
        ("10.13.3.9", "12.0.0.1", False),
    ],
)
def test_a_version_compatible_engine_loads_in_newer_versions(tmp_path, machine, built, installed, loads):
    fields = {"flavour": "tensorrt", "version": built, "targets": ["SM90"]}
    machine((9, 0), full=installed)
    compatible = record(tmp_path / "compatible.engine", version_compatible=True, **fields)
    if loads:
        check_loadable(compatible)
    else:
        with pytest.raises(NotHere, match=rf"{built} \(version-compatible\), and {installed} is installed"):
            check_loadable(compatible)
    if installed != built:
        with pytest.raises(NotHere, match=f"was built by TensorRT {built}, and {installed} is installed"):
            check_loadable(record(tmp_path / "exact.engine", **fields))


@pytest.mark.parametrize(
    ("level", "loads"), [("ampere_plus", True), ("same_compute_capability", False), (None, False)]
)
def test_hardware_compatibility_decides_on_which_gpus_an_engine_loads(tmp_path, machine, level, loads):
    fields = {"flavour": "tensorrt", "version": "11.0.0.1", "targets": ["SM86"]}
    report = record(tmp_path / "tiny.engine", hardware_compatibility=level, **fields)
    machine((12, 0), full="11.0.0.1")
    if loads:
        check_loadable(report)
        machine((7, 5), full="11.0.0.1")
        with pytest.raises(NotHere, match="runs on SM86 and newer GPUs, and the GPU here is SM75"):
            check_loadable(report)
    else:
        with pytest.raises(NotHere, match="runs on SM86, and the GPU here is SM120"):
            check_loadable(report)
    machine((8, 6), full="11.0.0.1")
    check_loadable(report)


def test_a_missing_tensorrt_is_not_an_error(tmp_path, machine):
    report = record(tmp_path / "tiny.engine", flavour="tensorrt", targets=["SM86"])
    machine((8, 6))
    with pytest.raises(NotHere, match=r"^TensorRT is not installed: pip install samebox\[tensorrt\]$"):
        check_loadable(report)
