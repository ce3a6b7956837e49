"""Engines of TensorRT and TensorRT-RTX on the GPU here."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samebox.engine import NotHere, Profile, check_loadable, engine_report, tensorrt_logger, tensorrt_module
from samebox.errors import SameboxError

INPUTS = ("images", "sizes")


class TensorRTRunner:
    """Runs one engine, a context manager: the GPU holds the engine from `with` to its end.

    `path` is the engine; the JSON file beside it says all else. Raises SameboxError where the two do not
    belong together, and NotHere on entry where this machine cannot run the engine.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        self.report = engine_report(path)
        self.metadata = self.report.metadata
        least, _, largest = self.report.profile.batch
        self.batch = largest if least == largest else None

    def __enter__(self) -> "TensorRTRunner":
        check_loadable(self.report)
        if not torch.cuda.is_available():
            raise NotHere(f"torch {torch.__version__} does not see the GPU: install torch with CUDA")
        self._trt = tensorrt_module(self.report.flavour)
        logger = tensorrt_logger(self._trt)
        logger.errors.clear()
        self._runtime = self._trt.Runtime(logger)
        self._engine = self._runtime.deserialize_cuda_engine(self.path.read_bytes())
        self._context = self._engine and self._engine.create_execution_context()
        if not self._context:
            raise NotHere(f"{self.path} does not load: {logger.said()}")
        self._stream = torch.cuda.Stream()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The context before its engine, the engine before its runtime: as TensorRT asks.
        del self._context, self._engine, self._runtime, self._stream

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """images [B,3,H,W] float32 RGB 0..255 and sizes [B,2] int64 → the outputs by name.

        Raises SameboxError for arrays outside the engine's profile.
        """
        check_shapes(inputs, self.report.profile)
        with torch.cuda.stream(self._stream):
            # Named, so that they live until the stream is done with them.
            buffers = {name: self._upload(name, inputs[name]) for name in INPUTS}
            if missing := self._context.infer_shapes():
                raise SameboxError(
                    f"{self.path}: it takes more than images and sizes: {missing}; build it anew"
                )
            outputs = {name: self._allocate(name) for name in self._outputs()}
            for name, buffer in (buffers | outputs).items():
                self._context.set_tensor_address(name, buffer.data_ptr())
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise RuntimeError(f"{self.path}: {tensorrt_logger(self._trt).said()}")
            return {name: output.cpu().numpy() for name, output in outputs.items()}

    def _outputs(self) -> list[str]:
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        return [n for n in names if self._engine.get_tensor_mode(n) == self._trt.TensorIOMode.OUTPUT]

    def _upload(self, name: str, array: NDArray[Any]) -> Tensor:
        if not self._context.set_input_shape(name, array.shape):
            raise SameboxError(f"{self.path}: {name} of shape {list(array.shape)} is refused; build it anew")
        return torch.from_numpy(np.ascontiguousarray(array, self._dtype(name))).cuda()

    def _allocate(self, name: str) -> Tensor:
        shape = tuple(self._context.get_tensor_shape(name))
        return torch.empty(shape, dtype=getattr(torch, self._dtype(name).name), device="cuda")

    def _dtype(self, name: str) -> np.dtype[Any]:
        """NumPy's type of a tensor; torch calls it by the same name."""
        return np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))


def check_shapes(inputs: Mapping[str, NDArray[Any]], profile: Profile) -> None:
    """Raises SameboxError unless `inputs` are images within `profile` and sizes of as many images."""
    if set(inputs) != set(INPUTS):
        raise SameboxError(f"an engine takes the arrays images and sizes, not {sorted(inputs)}")
    images, sizes = inputs["images"].shape, inputs["sizes"].shape
    profile.check(images)
    if sizes != (images[0], 2):
        raise SameboxError(
            f"sizes of shape {list(sizes)} do not fit {images[0]} images; give [{images[0]}, 2]"
        )
