"""ONNX files by ONNX Runtime, on the CPU, on CUDA or on TensorRT."""

import contextlib
import ctypes
import importlib
import io
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from samebox.core.environment import threads
from samebox.core.errors import NotHere, SameboxError
from samebox.core.files import existing
from samebox.core.gpu import gpus
from samebox.engine.providers import CPU, CUDA, PROVIDERS, TENSORRT

# What ONNX Runtime raises for a file that it does not load …
_BROKEN = (failures.InvalidProtobuf, failures.InvalidGraph, failures.InvalidArgument)
# … and for that, or for a provider that does not take it or does not start
_FAILED = (
    failures.Fail,
    failures.NotImplemented,
    failures.EPFail,
    failures.RuntimeException,
    RuntimeError,
    ValueError,
)

# Provider → options unless they are given: of themselves, products of fp32 numbers would be in TF32
_OPTIONS = {CUDA: {"use_tf32": "0"}}

_LIBRARIES = {CUDA: "cuda", TENSORRT: "tensorrt"}


class OnnxRuntimeRunner:
    """Runs one ONNX file on `device` ("cpu", "cuda" or "tensorrt"), a context manager.

    `options` are those of the device's providers, by their names. Once entered, `placed` counts the graph's
    nodes, those of loop bodies included, by the provider that runs them, and `notes` tells of it; on the CPU
    there is nothing to tell. The session lives within the block.

    Raises SameboxError where the file is absent or does not load; NotHere where the device is not to be
    had, or takes no node of the graph: ONNX Runtime would fall back to the CPU in silence.
    """

    def __init__(
        self, path: str | Path, device: str = "cpu", options: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        if device not in PROVIDERS:
            raise SameboxError(f"device: {device!r} is none of {', '.join(PROVIDERS)}")
        self.path = existing(path)
        self.name = str(path)
        self.notes: tuple[str, ...] = ()
        self.placed: Counter[str] = Counter()
        self._provider = PROVIDERS[device][0]
        asked = {**_OPTIONS, **(options or {})}
        self._providers = [(provider, dict(asked.get(provider, {}))) for provider in PROVIDERS[device]]

    def __enter__(self) -> "OnnxRuntimeRunner":
        self._session = self._opened()
        if self._provider != CPU:
            self._check_placed()
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        batch = self._session.get_inputs()[0].shape[0]
        self.batch: int | None = batch if isinstance(batch, int) else None
        self._outputs = [output.name for output in self._session.get_outputs()]
        return self

    def _opened(self) -> Any:
        """The session, whose first provider is there."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # warnings tell what graph optimisation removed
        options.intra_op_num_threads = threads() or 0  # 0: its own choice, one a core
        if self._provider != CPU:
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
            prepare(self._provider)
        try:
            session = onnxruntime.InferenceSession(
                self._model(), options, providers=self._providers, enable_fallback=0
            )
        except _BROKEN as error:
            raise SameboxError(self._refused(error)) from None
        except _FAILED as error:
            if self._provider == CPU:
                raise SameboxError(self._refused(error)) from None
            raise NotHere(f"{self._provider}: {library_error(self._provider) or _line(error)}") from None
        if session.get_providers()[0] != self._provider:
            raise NotHere(f"{self._provider}: {library_error(self._provider) or 'it does not start here'}")
        return session

    def _refused(self, error: Exception) -> str:
        return f"{self.path}: ONNX Runtime does not load it ({_line(error)})"

    def _check_placed(self) -> None:
        """Read back which provider runs which nodes."""
        if not hasattr(self._session, "get_provider_graph_assignment_info"):
            self.notes = (f"which nodes run on {self._provider} is told by ONNX Runtime from 1.24 on",)
            return
        self.placed = Counter()
        for part in self._session.get_provider_graph_assignment_info():
            self.placed[part.ep_name] += len(part.get_nodes())
        if not self.placed[self._provider]:
            raise NotHere(f"{self._provider}: it takes no node of the graph")
        total = self.placed.total()
        told = (f"{count} ({count / total:.0%}) on {name}" for name, count in self.placed.most_common())
        self.notes = (f"of {total} nodes ONNX Runtime runs {', '.join(told)}",)

    def _model(self) -> str | bytes:
        """What is loaded: a path, or a model in memory."""
        return str(self.path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._session

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.generic]]:
        """images [B,3,H,W] and sizes [B,2] → the outputs by name.

        Raises SameboxError for arrays of another shape than the graph takes, and NotHere where a GPU fails
        at them.
        """
        try:
            outputs = self._session.run(self._outputs, dict(inputs))
        except failures.InvalidArgument as error:
            raise SameboxError(f"{self.path}: {_line(error)}") from None
        except _FAILED as error:
            if self._provider == CPU:
                raise
            raise NotHere(f"{self._provider}: {_line(error)}") from None
        return dict(zip(self._outputs, outputs, strict=True))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def prepare(provider: str) -> None:
    """Load the libraries of CUDA, and of TensorRT, that came as Python packages.

    Raises NotHere where the installed ONNX Runtime has no such provider, or there is no GPU.
    """
    if provider not in onnxruntime.get_available_providers():
        raise NotHere(f"{provider}: the installed ONNX Runtime is without it: pip install onnxruntime-gpu")
    if not gpus():
        raise NotHere(f"{provider}: no NVIDIA GPU here")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what is not found as a package
        onnxruntime.preload_dlls()
    if provider == TENSORRT:
        with contextlib.suppress(ImportError):  # they may be installed without Python's package
            importlib.import_module("tensorrt")


def library_error(provider: str) -> str | None:
    """Why the provider's library does not load, None where it does.

    To be asked once ONNX Runtime has tried: a library that is loaded before has no host to turn to.
    """
    form = "onnxruntime_providers_{}.dll" if sys.platform == "win32" else "libonnxruntime_providers_{}.so"
    path = Path(onnxruntime.__file__).parent / "capi" / form.format(_LIBRARIES[provider])
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        return f"its library does not load: {_line(error)}"
    return None
