"""NVIDIA's driver for tests on a machine without a GPU: C functions whose device memory is the host's.

Copies on a stream happen when it is synchronized, as late as a GPU may do them. What is allocated or retained
is counted until it is freed.
"""

# ruff: noqa: N802, N815 - the functions have the driver's names

import ctypes
from collections import Counter
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p

# As in cuda.h: names and argument types of the functions that samebox calls
SIGNATURES = {
    "cuInit": (c_uint,),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_void_p, c_int, c_int),
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

STREAM, CONTEXT = 7 << 40, 9 << 40  # addresses that need more than 32 bits
OUT_OF_MEMORY, INVALID_CONTEXT = 2, 201


class Driver:
    """One GPU of 24 GiB, "Fast One", of compute capability 8.9.

    `status` is what `cuInit` returns. `allocated` maps addresses to memory that was not freed, on the host or
    `on_gpu`; `current` is the stack of contexts; `calls` counts the functions called. At `limit` bytes the
    GPU is full.
    """

    def __init__(self, status=0, limit=24 << 30):
        self.status, self.limit = status, limit
        self.allocated, self.on_gpu, self.current, self.calls = {}, set(), [], Counter()
        self.retained = self.streams = 0
        self.queue = []
        self.errors = {
            OUT_OF_MEMORY: c_char_p(b"out of memory"),
            INVALID_CONTEXT: c_char_p(b"invalid context"),
        }
        for name, types in SIGNATURES.items():
            setattr(self, name, ctypes.CFUNCTYPE(c_int, *types)(self.counted(name)))

    def counted(self, name):
        function = getattr(self, f"_{name.removesuffix('_v2')}")

        def call(*arguments):
            self.calls[name] += 1
            needs_context = name.startswith(("cuStream", "cuMem"))
            return INVALID_CONTEXT if needs_context and not self.current else function(*arguments) or 0

        return call

    def free(self):
        """Whether nothing is left on the GPU."""
        return not (self.allocated or self.current or self.retained or self.streams)

    def flush(self):
        """Do what is on the stream."""
        while self.queue:
            self.queue.pop(0)()

    def _cuInit(self, flags):
        return self.status

    def _cuDeviceGetCount(self, count):
        count[0] = 1

    def _cuDeviceGet(self, device, index):
        device[0] = index

    def _cuDeviceGetName(self, name, length, device):
        ctypes.memmove(name, b"Fast One\0", 9)

    def _cuDeviceTotalMem(self, memory, device):
        memory[0] = 24 << 30

    def _cuDeviceGetAttribute(self, value, attribute, device):
        value[0] = {75: 8, 76: 9}[attribute]

    def _cuDevicePrimaryCtxRetain(self, context, device):
        self.retained += 1
        context[0] = CONTEXT

    def _cuDevicePrimaryCtxRelease(self, device):
        self.retained -= 1

    def _cuCtxPushCurrent(self, context):
        assert context == CONTEXT
        self.current.append(context)

    def _cuCtxPopCurrent(self, context):
        context[0] = self.current.pop()

    def _cuStreamCreate(self, stream, flags):
        self.streams += 1
        stream[0] = STREAM

    def _cuStreamSynchronize(self, stream):
        assert stream == STREAM
        self.flush()

    def _cuStreamDestroy(self, stream):
        assert stream == STREAM
        self.streams -= 1

    def _cuMemAlloc(self, address, size):
        if size + sum(len(self.allocated[one]) for one in self.on_gpu) > self.limit:
            return OUT_OF_MEMORY
        self._cuMemAllocHost(address, size)
        self.on_gpu.add(address[0])
        return 0

    def _cuMemAllocHost(self, address, size):
        memory = ctypes.create_string_buffer(b"\xff" * size, size)
        address[0] = ctypes.addressof(memory)
        self.allocated[address[0]] = memory

    def _cuMemFree(self, address):
        self.on_gpu.remove(address)
        del self.allocated[address]

    def _cuMemFreeHost(self, address):
        assert address not in self.on_gpu
        del self.allocated[address]

    def _copy(self, target, source, size, stream):
        assert stream == STREAM
        assert {target, source} <= set(self.allocated)
        assert len({target, source} & self.on_gpu) == 1
        self.queue.append(lambda: ctypes.memmove(target, source, size))

    _cuMemcpyHtoDAsync = _cuMemcpyDtoHAsync = _copy

    def _cuMemGetInfo(self, free, total):
        free[0], total[0] = 3 << 30, 8 << 30

    def _cuGetErrorString(self, status, text):
        if status not in self.errors:
            return 1
        text[0] = self.errors[status]
        return 0
