"""ONNX files in ONNX Runtime, on the CPU, on CUDA or on TensorRT."""

import contextlib
import ctypes
import importlib
import io
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
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
from samebox.core.text import one_line
from samebox.engine.providers import CPU, CUDA, PROVIDERS, TENSORRT
from samebox.graph.external_data import check_external_data
from samebox.record.preprocess import MAX_BATCH, MAX_SIDE
from samebox.runners.time_limit import TimeLimit

# Raised for a file that ONNX Runtime cannot load …
_INVALID_FILE = (failures.InvalidProtobuf, failures.InvalidGraph, failures.InvalidArgument)
# … and for a file, or by a provider that does not support the graph or does not start
_FAILURES = (
    failures.Fail,
    failures.NotImplemented,
    failures.EPFail,
    failures.RuntimeException,
    RuntimeError,
    ValueError,
)

# Provider → options unless others are given. By default CUDA would compute products of fp32 numbers in TF32.
_OPTIONS = {CUDA: {"use_tf32": "0"}}

# Both builds install the same module, so that the one for CUDA must take the place of the one for the CPU
INSTALL_GPU = "pip uninstall --yes onnxruntime onnxruntime-gpu && pip install 'onnxruntime-gpu[cuda,cudnn]'"

_LIBRARIES = {CUDA: "cuda", TENSORRT: "tensorrt"}


class OnnxRuntimeRunner:
    """Runs one ONNX file on `device` ("cpu", "cuda" or "tensorrt"). A context manager.

    `options` maps the names of the device's providers to their options. `time_limit` is in seconds per image;
    after it a run is stopped, because the loop of an untrusted graph may be endless. Once entered,
    `node_counts` maps each provider to the number of nodes that it runs, nodes of loop bodies included, and
    `notes` states it in words; on the CPU both are empty.

    Raises SameboxError if the file does not exist or cannot be loaded, has other inputs than samebox's files,
    or names external data outside its folder. Raises NotHere if the device is not available, or supports no
    node of the graph: ONNX Runtime would fall back to the CPU without a message.
    """

    def __init__(
        self,
        path: str | Path,
        device: str = "cpu",
        options: Mapping[str, Mapping[str, str]] | None = None,
        time_limit: float | None = None,
    ) -> None:
        if device not in PROVIDERS:
            raise SameboxError(f"device: {device!r} is not one of {', '.join(PROVIDERS)}")
        self.path = existing(path)
        self.name = str(path)
        self.notes: tuple[str, ...] = ()
        self.node_counts: Counter[str] = Counter()
        self._provider = PROVIDERS[device][0]
        chosen = {**_OPTIONS, **(options or {})}
        self._providers = [(provider, dict(chosen.get(provider, {}))) for provider in PROVIDERS[device]]
        self._limit = TimeLimit(self.name, time_limit)

    def __enter__(self) -> "OnnxRuntimeRunner":
        self._session = self._open_session()
        if self._provider != CPU:
            self._count_nodes()
        try:
            self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
            inputs = {entry.name: (entry.type, entry.shape) for entry in self._session.get_inputs()}
            self.batch = _batch(inputs)
            self._outputs = [output.name for output in self._session.get_outputs()]
        except ValueError as error:  # names that are not UTF-8 raise one, too
            raise SameboxError(f"{self.path}: {one_line(error)}; export it with samebox") from None
        self._limit.start()
        return self

    def _open_session(self) -> Any:
        """A session that has the provider."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised, too, and a log would print the names in the file
        options.add_session_config_entry("session.load_model_format", "ONNX")  # whatever the suffix
        options.intra_op_num_threads = threads() or 0  # 0: ONNX Runtime's default, one thread a core
        if self._provider != CPU:
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
            load_libraries(self._provider)
        try:
            session = onnxruntime.InferenceSession(
                self._model(), options, providers=self._providers, enable_fallback=0
            )
        except _INVALID_FILE as error:
            raise SameboxError(self._load_error(error)) from None
        except _FAILURES as error:
            if self._provider == CPU:
                raise SameboxError(self._load_error(error)) from None
            reason = library_error(self._provider) or _on_one_line(error)
            raise NotHere(f"{self._provider}: {reason}") from None
        if session.get_providers()[0] != self._provider:
            raise NotHere(f"{self._provider}: {library_error(self._provider) or 'it does not start'}")
        return session

    def _load_error(self, error: Exception) -> str:
        return f"{self.path}: ONNX Runtime cannot load it ({_on_one_line(error)})"

    def _count_nodes(self) -> None:
        """Read back which provider runs which nodes."""
        if not hasattr(self._session, "get_provider_graph_assignment_info"):
            self.notes = (f"ONNX Runtime states which nodes run on {self._provider} from version 1.24 on",)
            return
        self.node_counts = Counter()
        for part in self._session.get_provider_graph_assignment_info():
            self.node_counts[part.ep_name] += len(part.get_nodes())
        if not self.node_counts[self._provider]:
            raise NotHere(f"{self._provider}: it supports no node of the graph")
        total = self.node_counts.total()
        counts = (f"{n} ({n / total:.0%}) on {provider}" for provider, n in self.node_counts.most_common())
        self.notes = (f"of {total} nodes ONNX Runtime runs {', '.join(counts)}",)

    def _model(self) -> str | bytes:
        """The model to load: a path, or its bytes."""
        check_external_data(self.path)
        return str(self.path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limit.stop()
        self._session = None

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.generic]]:
        """images [B,3,H,W] and sizes [B,2] → the outputs by name.

        Raises SameboxError for arrays of a shape that the graph does not accept, for a graph that fails on
        them, and at the time limit; NotHere if a GPU fails on them.
        """
        options = onnxruntime.RunOptions()
        try:
            with self._limit.watch(options, len(inputs["images"])):
                outputs = self._session.run(self._outputs, dict(inputs), options)
        except failures.InvalidArgument as error:
            raise SameboxError(f"{self.path}: {_on_one_line(error)}") from None
        except _FAILURES as error:
            self._limit.check()
            reason = _on_one_line(error)
            if self._provider == CPU:
                raise SameboxError(f"{self.path}: ONNX Runtime cannot run it ({reason})") from None
            raise NotHere(f"{self._provider}: {reason}") from None
        return dict(zip(self._outputs, outputs, strict=True))


def _batch(inputs: Mapping[str, tuple[str, Sequence[Any]]]) -> int | None:
    """The fixed batch of a graph, None if it is dynamic, from the types and shapes of its inputs.

    Raises ValueError unless it has `images` [batch,3,height,width] and `sizes` [batch,2]. A graph that is
    compared module by module has further inputs.
    """
    expected = {"images": ("tensor(float)", 4), "sizes": ("tensor(int64)", 2)}
    if not expected.items() <= {name: (kind, len(shape)) for name, (kind, shape) in inputs.items()}.items():
        raise ValueError(f"its inputs are {inputs}, not images [batch,3,height,width] and sizes [batch,2]")
    (batch, channels, *sides), (_, columns) = inputs["images"][1], inputs["sizes"][1]
    limits = [(batch, 1, MAX_BATCH), (channels, 3, 3), (columns, 2, 2), *((s, 1, MAX_SIDE) for s in sides)]
    if any(isinstance(value, int) and not least <= value <= most for value, least, most in limits):
        raise ValueError(f"its images are {inputs['images'][1]}, its sizes {inputs['sizes'][1]}")
    return batch if isinstance(batch, int) else None


def _on_one_line(error: Exception) -> str:
    return one_line(" ".join(str(error).split()), 500)


def load_libraries(provider: str) -> None:
    """Load the libraries of CUDA, and of TensorRT, that Python packages installed.

    Raises NotHere if there is no GPU, or the installed ONNX Runtime lacks the provider.
    """
    if not gpus():
        raise NotHere(f"{provider}: this machine has no NVIDIA GPU")
    if provider not in onnxruntime.get_available_providers():
        raise NotHere(f"{provider}: the installed ONNX Runtime is built without it; run {INSTALL_GPU}")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints which libraries no package installed
        onnxruntime.preload_dlls()
    if provider == TENSORRT:
        with contextlib.suppress(ImportError):  # the libraries may be installed without a Python package
            importlib.import_module("tensorrt")


def library_error(provider: str) -> str | None:
    """Why the provider's library cannot be loaded, None if it can.

    Call it after ONNX Runtime has tried to load the library: loaded earlier, it does not find ONNX Runtime's
    own.
    """
    form = "onnxruntime_providers_{}.dll" if sys.platform == "win32" else "libonnxruntime_providers_{}.so"
    path = Path(onnxruntime.__file__).parent / "capi" / form.format(_LIBRARIES[provider])
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        return f"its library cannot be loaded: {_on_one_line(error)}"
    return None
