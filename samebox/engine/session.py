"""ONNX files for ONNX Runtime's providers on a GPU: which they are, and what they are opened with.

Such a file carries its own settings, beside samebox's record, in its metadata: what an engine has in its
plan, a session is told when it is opened.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from onnx import helper

from samebox.core.environment import versions
from samebox.core.errors import SameboxError
from samebox.core.files import atomic_write, sha256
from samebox.engine.profile import Profile
from samebox.engine.providers import CUDA, TENSORRT
from samebox.graph.reading import input_shapes, metadata, onnx_model

SESSION_KEY = "samebox_session"

# Runtime → device, of the sessions that are made as engines are
SESSIONS = {"onnxruntime_cuda": "cuda", "onnxruntime_tensorrt": "tensorrt"}


@dataclass(frozen=True)
class Session:
    """A device, as in `PROVIDERS`, and the options of its providers by their names."""

    device: str
    options: dict[str, dict[str, str]]


def session_from_onnx(
    source: Path, target: Path, device: str, profile: Profile, workspace_mb: int, tf32: bool
) -> Session:
    """Write to `target` the ONNX file `source` with the session that it is to be run in.

    `tf32` is CUDA's, the others are TensorRT's, as for an engine; the precision is the ONNX file's own.
    Raises SameboxError where the profile contradicts the graph.
    """
    model = onnx_model(source)
    profile = profile.within(input_shapes(model, source)["images"], source)
    options = {CUDA: {"use_tf32": str(int(tf32))}}
    if device == "tensorrt":
        options[TENSORRT] = {"trt_max_workspace_size": str(workspace_mb << 20), **_profile_options(profile)}
    session = Session(device, options)
    helper.set_model_props(
        model, metadata(model) | {SESSION_KEY: json.dumps(asdict(session), sort_keys=True)}
    )
    with atomic_write(target) as aside:
        aside.write_bytes(model.SerializeToString(deterministic=True))
    return session


def _profile_options(profile: Profile) -> dict[str, str]:
    """The profile in the words of ONNX Runtime: images:1x3x32x32,sizes:1x2."""
    bounds = zip(("min", "opt", "max"), *(profile.shapes(name) for name in ("images", "sizes")), strict=True)
    return {
        f"trt_profile_{bound}_shapes": f"images:{_by_x(images)},sizes:{_by_x(sizes)}"
        for bound, images, sizes in bounds
    }


def _by_x(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def session_of(path: Path, cache: Path) -> Session:
    """The session that the ONNX file at `path` asks for, TensorRT's engines kept below `cache`.

    Their folder is made, as ONNX Runtime makes but its last part. Raises SameboxError where the file asks
    for no session.
    """
    record = metadata(onnx_model(path)).get(SESSION_KEY)
    if record is None:
        raise SameboxError(f"{path}: names no session of ONNX Runtime; run the stage engine, which writes it")
    session = Session(**json.loads(record))
    if TENSORRT in session.options:
        folder = cache / _cache_key(path)
        folder.mkdir(parents=True, exist_ok=True)
        session.options[TENSORRT] |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(folder)}
    return session


def _cache_key(path: Path) -> str:
    """What an engine in the cache depends on, but for the GPU: ONNX Runtime itself looks at no weights."""
    asked = json.dumps([sha256(path), versions()], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()[:16]
