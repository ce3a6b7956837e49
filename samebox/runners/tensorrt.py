"""Engines of TensorRT and TensorRT-RTX on the GPU of this machine."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samebox.core.cuda import Buffer, Stream
from samebox.core.errors import NotHere, SameboxError
from samebox.engine.cache import runtime_cache
from samebox.engine.flavour import create_runtime, tensorrt_logger, tensorrt_module
from samebox.engine.profile import Profile
from samebox.engine.record import check_loadable, engine_report

INPUTS = ("images", "sizes")


class TensorRTRunner:
    """Runs one engine. A context manager: the GPU holds the engine within the block.

    `path` is the engine; the JSON file beside it describes it. `cache` is a folder in which TensorRT-RTX
    keeps the kernels that it compiles for this GPU, see `samebox.engine.cache`. Inputs and outputs go through
    pinned host memory and are copied asynchronously on one stream. Raises SameboxError if engine and JSON
    file do not belong together, and NotHere on entry if this machine cannot run the engine.
    """

    def __init__(self, path: Path, cache: Path | None = None) -> None:
        self.path = path
        self.name = str(path)
        self.report = engine_report(path)
        self.metadata = self.report.metadata
        least, _, largest = self.report.profile.batch
        self.batch = largest if least == largest else None
        self._cache = cache

    def __enter__(self) -> "TensorRTRunner":
        check_loadable(self.report)
        with ExitStack() as stack:
            self._stream = stack.enter_context(Stream())
            stack.callback(self._release)
            with self._stream.current():
                self._open(stack)
            self._resources = stack.pop_all()
        return self

    def _open(self, stack: ExitStack) -> None:
        """Load the engine, and allocate a buffer for each of its inputs and outputs."""
        self._trt = tensorrt_module(self.report.flavour)
        logger = tensorrt_logger(self._trt)
        logger.errors.clear()
        self._runtime = create_runtime(self._trt, self.report.version_compatible)
        self._context: Any = None
        self._engine = self._runtime.deserialize_cuda_engine(self.path.read_bytes())
        self._context = self._engine and self._execution_context(stack)
        if not self._context:
            raise NotHere(f"{self.path} does not load: {logger.error_text()}")
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        output = self._trt.TensorIOMode.OUTPUT
        self._outputs = [name for name in names if self._engine.get_tensor_mode(name) == output]
        self._buffers = {name: self._stream.buffer() for name in (*INPUTS, *self._outputs)}
        self._allocator = output_allocator(self._trt, self._buffers)

    def _execution_context(self, stack: ExitStack) -> Any:
        if self.report.flavour == "tensorrt" or self._cache is None:
            return self._engine.create_execution_context()
        config = self._engine.create_runtime_config()
        stack.enter_context(runtime_cache(self._trt, config, self._cache))
        return self._engine.create_execution_context(config)

    def _release(self) -> None:
        """Free TensorRT's objects in its order: the context, its engine, its runtime."""
        with self._stream.current():
            self._context = self._engine = self._runtime = self._allocator = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """images [B,3,H,W] float32 RGB 0..255 and sizes [B,2] int64 → the outputs by name.

        Raises SameboxError for arrays outside the engine's profile, and NotHere if the GPU fails.
        """
        check_shapes(inputs, self.report.profile)
        with self._stream.current():
            self._set_shapes(inputs)
            for name in INPUTS:
                self._buffers[name].upload(inputs[name], self._dtype(name))
                self._context.set_tensor_address(name, self._buffers[name].address)
            for name in self._outputs:
                self._bind_output(name)
            executed = self._context.execute_async_v3(self._stream.handle)
            outputs = {name: self._download(name) for name in self._outputs} if executed else {}
            self._stream.synchronize()
        if not executed:
            raise NotHere(f"{self.path} does not run: {tensorrt_logger(self._trt).error_text()}")
        return {name: output.copy() for name, output in outputs.items()}

    def _set_shapes(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        for name in INPUTS:
            if not self._context.set_input_shape(name, inputs[name].shape):
                shape = list(inputs[name].shape)
                raise SameboxError(f"{self.path}: {name} of shape {shape} is refused; build it again")
        if missing := self._context.infer_shapes():
            raise SameboxError(
                f"{self.path}: it takes more inputs than images and sizes: {missing}; build it again"
            )

    def _bind_output(self, name: str) -> None:
        """Give an output its memory if the input shapes determine its shape, and else the allocator.

        The shape of other outputs depends on the values of the inputs.
        """
        shape = self._context.get_tensor_shape(name)
        self._allocator.shapes[name] = tuple(shape)
        if -1 in shape:
            self._context.set_output_allocator(name, self._allocator)
        else:
            size = int(np.prod(shape)) * self._dtype(name).itemsize
            self._context.set_tensor_address(name, self._buffers[name].reserve(size))

    def _download(self, name: str) -> NDArray[Any]:
        return self._buffers[name].download(self._allocator.shapes[name], self._dtype(name))

    def _dtype(self, name: str) -> np.dtype[Any]:
        """NumPy's type of a tensor."""
        return np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))


def output_allocator(trt: Any, buffers: Mapping[str, Buffer]) -> Any:
    """Allocates memory in `buffers` for outputs whose shape depends on the values of the inputs.

    TensorRT requests the memory during a call. `shapes` holds the shape of each output by name.
    """

    class Allocator(trt.IOutputAllocator):
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self.shapes: dict[str, tuple[int, ...]] = {}

        def reallocate_output_async(
            self, name: str, memory: int, size: int, alignment: int, stream: int
        ) -> int:
            return buffers[name].reserve(size)

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
