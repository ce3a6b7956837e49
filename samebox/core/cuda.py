"""CUDA memory, copies and streams through NVIDIA's driver itself, by ctypes.

The driver comes with the machine, so that this needs no package and fits every version of CUDA. Everything
happens in the primary context of the first GPU, which TensorRT, ONNX Runtime and PyTorch use as well.
Functions raise NotHere, with the driver's reason, if a call of the driver fails.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from samebox.core.errors import NotHere

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

# Argument types of the functions called here, as in cuda.h. A CUdeviceptr is an unsigned 64-bit integer;
# without its type ctypes would pass 32 bits
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceTotalMem_v2": (POINTER(c_size_t), c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxPushCurrent_v2": (c_void_p,),
    "cuCtxPopCurrent_v2": (POINTER(c_void_p),),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemAllocHost_v2": (POINTER(c_void_p), c_size_t),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
}
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: the stream does not wait for the default stream


class Driver:
    """The driver's functions by name. Raises NotHere if the machine has no NVIDIA driver."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
            for name, types in _SIGNATURES.items():
                getattr(self._library, name).argtypes = types
        except (OSError, AttributeError) as error:
            raise NotHere(f"the NVIDIA driver cannot be used ({error}); install or update it") from None

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function of `_SIGNATURES`. Raises NotHere if its status is not 0."""
        status = getattr(self._library, function)(*arguments)
        if status != 0:
            text = c_char_p()
            self._library.cuGetErrorString(status, byref(text))
            raise NotHere(f"CUDA: {function} failed: {(text.value or b'error %d' % status).decode()}")


class PrimaryContext:
    """The primary context of the first GPU, retained within the block. A context manager."""

    def __init__(self) -> None:
        self.driver = Driver()

    def __enter__(self) -> "PrimaryContext":
        self._context, self._device = c_void_p(), c_int()
        self.driver.call("cuInit", 0)
        self.driver.call("cuDeviceGet", byref(self._device), 0)
        self.driver.call("cuDevicePrimaryCtxRetain", byref(self._context), self._device)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.driver.call("cuDevicePrimaryCtxRelease_v2", self._device)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context current for this thread while the block lasts."""
        self.driver.call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self.driver.call("cuCtxPopCurrent_v2", byref(c_void_p()))


class Stream:
    """A stream and the buffers that are copied on it. A context manager, which frees them all.

    `handle` is the address of the stream, as TensorRT takes it. Every method but `current` needs the context
    to be current.
    """

    def __enter__(self) -> "Stream":
        with ExitStack() as stack:
            self._context = stack.enter_context(PrimaryContext())
            self.driver, stream = self._context.driver, c_void_p()
            with self.current():
                self.driver.call("cuStreamCreate", byref(stream), _NON_BLOCKING)
            self.handle = stream.value or 0
            stack.callback(self._destroy)
            self._buffers: list[Buffer] = []
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def _destroy(self) -> None:
        with self.current():
            self.synchronize()
            for buffer in self._buffers:
                buffer.free()
            self.driver.call("cuStreamDestroy_v2", self.handle)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the stream's context current for this thread while the block lasts."""
        with self._context.current():
            yield

    def buffer(self) -> "Buffer":
        """An empty buffer, freed with the stream."""
        self._buffers.append(Buffer(self))
        return self._buffers[-1]

    def synchronize(self) -> None:
        """Wait until everything on the stream is done."""
        self.driver.call("cuStreamSynchronize", self.handle)


class Buffer:
    """Memory on the GPU at `address`, and pinned host memory from and to which it is copied asynchronously.

    Both grow on demand and keep their size. The host memory may be written or read after the stream is
    synchronized.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.address = self._size = self._host = self._host_size = 0

    def reserve(self, size: int) -> int:
        """The address of at least `size` bytes on the GPU, aligned to 256. Their content is undefined."""
        if size > self._size or not self.address:
            self._free_device()
            address = c_uint64()
            self._stream.driver.call("cuMemAlloc_v2", byref(address), max(size, 1))
            self.address, self._size = address.value, size
        return self.address

    def upload(self, array: NDArray[Any], dtype: DTypeLike) -> None:
        """Copy the array, as `dtype`, to the GPU."""
        staged = self._pinned(array.shape, np.dtype(dtype))
        np.copyto(staged, array, casting="unsafe")
        self.reserve(staged.nbytes)
        if staged.nbytes:
            self._stream.driver.call(
                "cuMemcpyHtoDAsync_v2", self.address, self._host, staged.nbytes, self._stream.handle
            )

    def download(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Copy an array from the GPU; its values are there once the stream is synchronized.

        The array is the pinned memory itself, which the next copy overwrites.
        """
        staged = self._pinned(shape, np.dtype(dtype))
        if staged.nbytes:
            self._stream.driver.call(
                "cuMemcpyDtoHAsync_v2", self._host, self.address, staged.nbytes, self._stream.handle
            )
        return staged

    def free(self) -> None:
        """Free both memories."""
        self._free_device()
        self._free_host()

    def _pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The pinned memory as an array of this shape and type."""
        count = int(np.prod(shape, dtype=np.int64))
        if not count:
            return np.empty(shape, dtype)
        if count * dtype.itemsize > self._host_size:
            self._free_host()
            address = c_void_p()
            self._stream.driver.call("cuMemAllocHost_v2", byref(address), count * dtype.itemsize)
            self._host, self._host_size = address.value or 0, count * dtype.itemsize
        memory = (ctypes.c_byte * (count * dtype.itemsize)).from_address(self._host)
        return np.frombuffer(memoryview(memory), dtype).reshape(shape)

    def _free_device(self) -> None:
        if self.address:
            self._stream.driver.call("cuMemFree_v2", self.address)
        self.address = self._size = 0

    def _free_host(self) -> None:
        if self._host:
            self._stream.driver.call("cuMemFreeHost", self._host)
        self._host = self._host_size = 0


def memory_in_use() -> int:
    """The bytes in use on the first GPU, by all processes together, the context of this process included."""
    free, total = c_size_t(), c_size_t()
    with PrimaryContext() as context, context.current():
        context.driver.call("cuMemGetInfo_v2", byref(free), byref(total))
    return total.value - free.value
