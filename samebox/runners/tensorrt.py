"""Engines of TensorRT and TensorRT-RTX on the GPU here."""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samebox.core.errors import NotHere, SameboxError
from samebox.engine.cache import runtime_cache
from samebox.engine.flavour import runtime, tensorrt_logger, tensorrt_module
from samebox.engine.profile import Profile
from samebox.engine.record import check_loadable, engine_report

INPUTS = ("images", "sizes")
DEVICE = torch.device("cuda")


class TensorRTRunner:
    """Runs one engine, a context manager: the GPU holds the engine from `with` to its end.

    `path` is the engine; the JSON file beside it says all else. `cache` is a folder in which TensorRT-RTX
    keeps the kernels that it compiles for the GPU here, see `samebox.engine.cache`. Raises SameboxError where
    engine and JSON file do not belong together, and NotHere on entry where this machine cannot run them.
    """

    def __init__(self, path: Path, cache: Path | None = None) -> None:
        self.path = path
        self.name = str(path)
        self.report = engine_report(path)
        self.metadata = self.report.metadata
        least, _, largest = self.report.profile.batch
        self.batch = largest if least == largest else None
        self._cache = cache
        self._caches = ExitStack()

    def __enter__(self) -> "TensorRTRunner":
        check_loadable(self.report)
        if not torch.cuda.is_available():
            raise NotHere(f"torch {torch.__version__} does not see the GPU: install torch with CUDA")
        self._trt = tensorrt_module(self.report.flavour)
        logger = tensorrt_logger(self._trt)
        logger.errors.clear()
        self._stream = torch.cuda.Stream()
        self._runtime = runtime(self._trt, self.report.version_compatible)
        self._engine = self._runtime.deserialize_cuda_engine(self.path.read_bytes())
        self._context = self._engine and self._execution_context()
        if not self._context:
            raise NotHere(f"{self.path} does not load: {logger.said()}")
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        output = self._trt.TensorIOMode.OUTPUT
        self._outputs = [name for name in names if self._engine.get_tensor_mode(name) == output]
        self._allocator = output_allocator(self._trt)
        return self

    def _execution_context(self) -> Any:
        if self.report.flavour == "tensorrt" or self._cache is None:
            return self._engine.create_execution_context()
        config = self._engine.create_runtime_config()
        self._caches.enter_context(runtime_cache(self._trt, config, self._cache))
        return self._engine.create_execution_context(config)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._caches.close()
        # The context before its engine, the engine before its runtime: as TensorRT asks.
        del self._context, self._engine, self._runtime, self._allocator, self._stream

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
            fixed = {name: self._allocate(name) for name in self._outputs if self._is_fixed(name)}
            for name, buffer in (buffers | fixed).items():
                self._context.set_tensor_address(name, buffer.data_ptr())
            growing = [name for name in self._outputs if name not in fixed]
            for name in growing:
                self._context.set_output_allocator(name, self._allocator)
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise RuntimeError(f"{self.path}: {tensorrt_logger(self._trt).said()}")
            outputs = fixed | {name: self._given(name) for name in growing}
            # What torch copies without waiting goes to pinned memory.
            found = {name: output.to("cpu", non_blocking=True) for name, output in outputs.items()}
        self._stream.synchronize()
        return {name: output.numpy() for name, output in found.items()}

    def _upload(self, name: str, array: NDArray[Any]) -> Tensor:
        if not self._context.set_input_shape(name, array.shape):
            raise SameboxError(f"{self.path}: {name} of shape {list(array.shape)} is refused; build it anew")
        pinned = torch.from_numpy(np.ascontiguousarray(array, self._dtype(name))).pin_memory()
        return pinned.to(DEVICE, non_blocking=True)

    def _is_fixed(self, name: str) -> bool:
        """Whether the shape of an output follows from those of the inputs, not from their values."""
        return -1 not in self._context.get_tensor_shape(name)

    def _allocate(self, name: str) -> Tensor:
        shape = tuple(self._context.get_tensor_shape(name))
        return torch.empty(shape, dtype=self._torch_dtype(name), device=DEVICE)

    def _given(self, name: str) -> Tensor:
        """An output for which TensorRT asked memory, in the shape that it told."""
        shape, dtype = self._allocator.shapes[name], self._torch_dtype(name)
        return self._allocator.buffers[name][: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)

    def _torch_dtype(self, name: str) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self._dtype(name).name)
        return dtype

    def _dtype(self, name: str) -> np.dtype[Any]:
        """NumPy's type of a tensor; torch calls it by the same name."""
        return np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))


def output_allocator(trt: Any) -> Any:
    """Memory for outputs whose shape depends on the inputs' values, as TensorRT asks for it in a call.

    `buffers` holds the bytes of each output by name, `shapes` what TensorRT then told of it.
    """

    class Allocator(trt.IOutputAllocator):
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self.buffers: dict[str, Tensor] = {}
            self.shapes: dict[str, tuple[int, ...]] = {}

        def reallocate_output_async(
            self, name: str, memory: int, size: int, alignment: int, stream: int
        ) -> int:
            # Of no bytes torch gives no address, which would tell TensorRT that there is no memory.
            self.buffers[name] = torch.empty(max(size, 1), dtype=torch.uint8, device=DEVICE)
            return self.buffers[name].data_ptr()

        def notify_shape(self, name: str, shape: Sequence[int]) -> None:
            self.shapes[name] = tuple(shape)

    return Allocator()


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
