"""ONNX files by ONNX Runtime, on the CPU or on CUDA."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from samebox.engine import NotHere
from samebox.errors import SameboxError
from samebox.files import existing

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntimeRunner:
    """Runs one ONNX file on `device` ("cpu" or "cuda"), a context manager: the session lives within it.

    Raises SameboxError where the file is absent or does not load; NotHere where the device is not to be
    had: ONNX Runtime would fall back to the CPU in silence.
    """

    def __init__(self, path: str | Path, device: str = "cpu") -> None:
        if device not in PROVIDERS:
            raise SameboxError(f"device: {device!r} is none of {', '.join(PROVIDERS)}")
        self.path = existing(path)
        self.name = str(path)
        self._provider = PROVIDERS[device]

    def __enter__(self) -> "OnnxRuntimeRunner":
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # warnings tell what graph optimisation removed
        try:
            self._session = onnxruntime.InferenceSession(
                self._model(), options, providers=list(dict.fromkeys([self._provider, PROVIDERS["cpu"]]))
            )
        except (
            failures.InvalidProtobuf,
            failures.InvalidGraph,
            failures.InvalidArgument,
            failures.Fail,
            failures.NotImplemented,
        ) as error:
            reason = " ".join(str(error).split())
            raise SameboxError(f"{self.path}: ONNX Runtime does not load it ({reason})") from None
        if self._session.get_providers()[0] != self._provider:
            raise NotHere(f"{self._provider}: no NVIDIA GPU that ONNX Runtime can use here")
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        batch = self._session.get_inputs()[0].shape[0]
        self.batch: int | None = batch if isinstance(batch, int) else None
        self._outputs = [output.name for output in self._session.get_outputs()]
        return self

    def _model(self) -> str | bytes:
        """What is loaded: a path, or a model in memory."""
        return str(self.path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._session

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.generic]]:
        """images [B,3,H,W] and sizes [B,2] → the outputs by name.

        Raises SameboxError for arrays of another shape than the graph takes.
        """
        try:
            outputs = self._session.run(self._outputs, dict(inputs))
        except failures.InvalidArgument as error:
            raise SameboxError(f"{self.path}: {' '.join(str(error).split())}") from None
        return dict(zip(self._outputs, outputs, strict=True))
