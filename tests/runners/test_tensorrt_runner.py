import numpy as np
import pytest

from samebox import engine
from samebox.engine import EngineReport, NotHere, Profile, sidecar
from samebox.errors import SameboxError
from samebox.files import sha256, write_json
from samebox.runners.tensorrt import TensorRTRunner, check_shapes

PROFILE = Profile(batch=(1, 2, 4), height=(64, 96, 256), width=(64, 128, 512))


@pytest.fixture
def runner(tmp_path):
    path = tmp_path / "net.engine"
    path.write_bytes(b"plan")
    report = EngineReport(
        flavour="tensorrt_rtx",
        version="1",
        opset=18,
        targets=["SM86"],
        profile=PROFILE,
        tf32=False,
        workspace_mb=1,
        layers=1,
        build_seconds=1.0,
        peak_memory_mb=None,
        onnx_sha256="",
        plan_sha256=sha256(path),
        plan_bytes=4,
        metadata={"samebox": "{}"},
        built_on={},
    )
    write_json(sidecar(path), report.as_dict())
    return TensorRTRunner(path)


def arrays(*shape, sizes=None):
    return {"images": np.zeros(shape, np.float32), "sizes": np.zeros(sizes or (shape[0], 2), np.int64)}


def test_the_engine_and_its_json_file_are_enough(runner):
    assert runner.metadata == {"samebox": "{}"}
    assert runner.batch is None  # any within the profile


def test_a_machine_without_a_gpu_is_not_the_place(runner, monkeypatch):
    monkeypatch.setattr(engine, "gpus", list)
    with pytest.raises(NotHere, match="no GPU here"), runner:
        pass


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (4, 3, 256, 512), (2, 3, 96, 100)])
def test_shapes_within_the_profile_pass(shape):
    check_shapes(arrays(*shape), PROFILE)


@pytest.mark.parametrize(
    ("inputs", "fault"),
    [
        (arrays(5, 3, 64, 64), r"images of shape \[5, 3, 64, 64\] are outside .* batch 1\.\.4"),
        (arrays(1, 3, 32, 64), r"height 64\.\.256"),
        (arrays(1, 3, 64, 544), r"width 64\.\.512"),
        (arrays(1, 1, 64, 64), "outside the engine's profile"),
        (arrays(3, 64, 64), "outside the engine's profile"),
        (arrays(2, 3, 64, 64, sizes=(1, 2)), r"sizes of shape \[1, 2\] do not fit 2 images; give \[2, 2\]"),
        (
            {"images": np.zeros((1, 3, 64, 64), np.float32)},
            r"takes the arrays images and sizes, not \['images'\]",
        ),
    ],
)
def test_shapes_outside_the_profile_are_named(inputs, fault):
    with pytest.raises(SameboxError, match=fault):
        check_shapes(inputs, PROFILE)
