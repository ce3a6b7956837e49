"""ONNX files that contain the settings of their ONNX Runtime session on a GPU.

The settings are a metadata entry beside samebox's record. An engine has them in its plan; ONNX Runtime takes
them when it opens a session.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from onnx import helper

from samebox.core.errors import SameboxError
from samebox.core.files import atomic_write, sha256
from samebox.core.text import one_line
from samebox.core.typed import from_json
from samebox.core.versions import versions
from samebox.engine.profile import Profile
from samebox.engine.providers import CUDA, TENSORRT
from samebox.graph.reading import input_shapes, metadata, onnx_model

SESSION_KEY = "samebox_session"

# Runtime → device, for the runtimes whose files the engine stage writes
SESSION_DEVICES = {"onnxruntime_cuda": "cuda", "onnxruntime_tensorrt": "tensorrt"}


_PROFILE_OPTIONS = [f"trt_profile_{bound}_shapes" for bound in ("min", "opt", "max")]


@dataclass(frozen=True)
class Session:
    """The settings of a session: a device, see `PROVIDERS`, and options by the name of the provider."""

    device: str
    options: dict[str, dict[str, str]]


def session_from_onnx(
    source: Path, target: Path, device: str, profile: Profile, workspace_mb: int, tf32: bool
) -> Session:
    """Write to `target` the ONNX file `source` with the settings of its session, which are returned.

    `tf32` is an option of the CUDA provider. `profile` and `workspace_mb` are options of the TensorRT
    provider, as for an engine. The precision is that of the ONNX file. Raises SameboxError if a fixed
    dimension of the graph is outside the profile.
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
    with atomic_write(target) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
    return session


def _profile_options(profile: Profile) -> dict[str, str]:
    """The profile in ONNX Runtime's format: images:1x3x32x32,sizes:1x2."""
    bounds = zip(_PROFILE_OPTIONS, *(profile.shapes(name) for name in ("images", "sizes")), strict=True)
    return {
        option: f"images:{_shape_text(images)},sizes:{_shape_text(sizes)}" for option, images, sizes in bounds
    }


def _shape_text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def session_from_file(path: Path, cache: Path) -> Session:
    """The settings of the session in the ONNX file at `path`; TensorRT's engines are cached below `cache`.

    The cache folder is created here, because ONNX Runtime creates only the last path component. Raises
    SameboxError if the file contains no settings.
    """
    record = metadata(onnx_model(path)).get(SESSION_KEY)
    if record is None:
        raise SameboxError(f"{path}: it contains no settings for a session; the stage engine writes them")
    try:
        session = from_json(Session, json.loads(record))
        _check(session)
    except (ValueError, RecursionError) as error:
        raise SameboxError(
            f"{path}: its settings of a session are damaged ({one_line(error)}); run the stage engine"
        ) from None
    if TENSORRT in session.options:
        folder = cache / _cache_key(path)
        folder.mkdir(parents=True, exist_ok=True)
        session.options[TENSORRT] |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(folder)}
    return session


def _check(session: Session) -> None:
    """Raises ValueError for another device, and for options that `session_from_onnx` does not write."""
    allowed = {CUDA: {"use_tf32"}, TENSORRT: {"trt_max_workspace_size", *_PROFILE_OPTIONS}}
    if session.device not in SESSION_DEVICES.values():
        raise ValueError(f"device {session.device}")
    for provider, options in session.options.items():
        if unknown := sorted(options.keys() - allowed.get(provider, set())):
            raise ValueError(f"{provider}: option {unknown[0]}")


def _cache_key(path: Path) -> str:
    """A hash of the file and of the installed versions, because ONNX Runtime's key ignores the weights.

    ONNX Runtime's key contains the GPU.
    """
    key = json.dumps([sha256(path), versions()], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()[:16]
