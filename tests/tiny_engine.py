"""Records of engines and a stand-in for the full TensorRT, for tests without a GPU."""

import types

import tensorrt_rtx

from samebox.core.files import sha256, write_json
from samebox.engine.profile import Profile
from samebox.engine.record import EngineReport, sidecar

PROFILE = Profile(batch=(1, 2, 4), height=(64, 96, 256), width=(64, 128, 512))
TARGETS = ["SM86", "SM89", "SM120"]


def record(path, **values):
    """Write a plan of a few bytes to `path`, and beside it its record, in which `values` replace fields."""
    path.write_bytes(b"plan")
    defaults = {
        "flavour": "tensorrt_rtx",
        "version": tensorrt_rtx.__version__,
        "opset": 18,
        "targets": TARGETS,
        "profile": PROFILE,
        "tf32": False,
        "workspace_mb": 1,
        "layers": 1,
        "build_seconds": 1.0,
        "peak_memory_mb": None,
        "onnx_sha256": "",
        "plan_sha256": sha256(path),
        "plan_bytes": 4,
        "metadata": {"samebox": "{}"},
        "built_on": {},
    }
    report = EngineReport(**(defaults | values))
    write_json(sidecar(path), report.as_dict())
    return report


def full_tensorrt(version="10.13.3.9"):
    """TensorRT-RTX's module under the name and a version of the full TensorRT."""
    module = types.ModuleType("tensorrt")
    vars(module).update({**vars(tensorrt_rtx), "__name__": "tensorrt", "__version__": version})
    return module
