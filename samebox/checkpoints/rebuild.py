"""The globals that a checkpoint may name, and the functions that rebuild them from checked plain values."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from samebox.checkpoints.machine import (
    AllowedFunction,
    BrokenPickleError,
    Placeholder,
    checked_key,
    dict_from_flat,
)
from samebox.core.text import one_line

_STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_NUMPY_DTYPE = re.compile(r"b1|i[1248]|u[1248]|f[248]|c8|c16|[SU]\d{1,4}")  # numbers and text, never objects
_MAX_AXES = 16


@dataclass(frozen=True)
class Storage:
    """The memory that tensors are views of, and the type of its elements."""

    memory: torch.UntypedStorage
    dtype: torch.dtype


class NumpyDtype(Placeholder):
    """A numpy dtype, which must be little-endian."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        super().__init__("numpy.dtype")
        self.dtype = dtype

    def build(self, state: Any) -> "NumpyDtype":
        """The dtype itself. Raises BrokenPickleError for big-endian numbers."""
        if type(state) is not tuple or len(state) < 2 or state[1] not in ("<", "|", "="):
            raise BrokenPickleError("numpy numbers that are not little-endian")
        return self


class EmptyArray(Placeholder):
    """A numpy array as pickle first creates it: empty. Its state has the shape, the dtype and the bytes."""

    def build(self, state: Any) -> Any:
        """The array, or this placeholder if its elements are objects."""
        _, shape, dtype, fortran, data = state
        return array(data, dtype, shape, "F" if fortran else "C") if isinstance(dtype, NumpyDtype) else self


def array(data: Any, dtype: Any, shape: Any, order: Any = "C") -> Any:
    """The array of the raw bytes `data`, which Python 2 wrote as latin-1 text.

    A placeholder if `dtype` is not a plain number or text. Raises BrokenPickleError if the bytes do not match
    `shape`.
    """
    if not isinstance(dtype, NumpyDtype):
        return Placeholder("numpy.ndarray")
    raw = data.encode("latin-1") if type(data) is str else data
    if type(raw) not in (bytes, bytearray) or order not in ("C", "F"):
        raise BrokenPickleError("a numpy array without bytes")
    sizes = _checked_sizes(shape)
    if len(raw) != math.prod(sizes) * dtype.dtype.itemsize:
        raise BrokenPickleError(f"a numpy array of shape {shape} with {len(raw)} bytes")
    return np.frombuffer(raw, dtype.dtype).reshape(sizes, order=order).copy()


def tensor(
    storage: Any, offset: Any, sizes: Any, strides: Any, _grad: Any = 0, _hooks: Any = 0, bits: Any = None
) -> torch.Tensor:
    """The view of `storage` that starts at `offset`; offset and strides are in elements.

    Raises BrokenPickleError if the view reaches outside the storage, if it has more elements than the storage
    (a copy of it could be larger than the file by any factor), or if the tensor has pending operations
    (`bits`, which complex tensors may have).
    """
    if not isinstance(storage, Storage) or bits:
        raise BrokenPickleError("a tensor without a storage")
    sizes, strides, (offset,) = _checked_sizes(sizes), _checked_sizes(strides), _checked_sizes((offset,))
    if len(sizes) != len(strides):
        raise BrokenPickleError("a tensor with another number of strides than axes")
    available = storage.memory.nbytes() // storage.dtype.itemsize
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    count = math.prod(sizes)
    if count > available or (count and last >= available) or offset > available:
        raise BrokenPickleError(
            f"a tensor of shape {sizes}, strides {strides}, offset {offset} outside its {available} elements"
        )
    return torch.empty(0, dtype=storage.dtype).set_(storage.memory, offset, sizes, strides)


def _checked_sizes(values: Any) -> tuple[int, ...]:
    """`values` as a tuple of at most 16 integers from 0 to 2^62 - 1. Raises BrokenPickleError for others."""
    if type(values) not in (tuple, list) or len(values) > _MAX_AXES:
        raise BrokenPickleError(f"a shape that is not a list of at most {_MAX_AXES} numbers")
    if not all(type(value) is int and 0 <= value < 2**62 for value in values):
        raise BrokenPickleError("a shape, stride or offset out of range")
    return tuple(values)


def _parameter(data: Any, *_: Any) -> torch.Tensor:
    if not isinstance(data, torch.Tensor):
        raise BrokenPickleError("a parameter without a tensor")
    return data


def _scalar(dtype: Any, data: Any = b"") -> Any:
    """The Python value of a numpy scalar, or a placeholder if it is an object."""
    scalar = array(data, dtype, ())
    return scalar if isinstance(scalar, Placeholder) else scalar.item()


def _reconstruct(kind: Any, *_: Any) -> Placeholder:
    """An empty array, whose state follows; a plain placeholder for subclasses of numpy's array."""
    if not isinstance(kind, Placeholder):
        raise BrokenPickleError("an array without its class")
    return EmptyArray(kind.name) if kind.name == "numpy.ndarray" else Placeholder(kind.name)


def _bytes(text: Any = "", encoding: Any = "latin1") -> bytes:
    """Bytes as protocol 2 writes them: as text with one character per byte."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise BrokenPickleError("bytes in another encoding than latin-1")
    return text.encode("latin-1")


def _dict(pairs: Any = ()) -> dict[Any, Any]:
    flat = [part for key, value in _items(pairs) for part in (key, value)]
    return dict_from_flat(flat)


def _set(items: Any = ()) -> set[Any]:
    return set(map(checked_key, _items(items)))


def _frozenset(items: Any = ()) -> frozenset[Any]:
    return frozenset(_set(items))


def _items(items: Any) -> list[Any] | tuple[Any, ...]:
    if type(items) not in (list, tuple):
        raise BrokenPickleError(f"a collection created from a {type(items).__name__}")
    return items


_NUMPY_CORES = ("numpy.core", "numpy._core")  # before and since numpy 2
_BUILTINS = ("builtins", "__builtin__")  # of Python 3 and 2
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": tensor,
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "collections.OrderedDict": _dict,
    "_codecs.encode": _bytes,
    **{f"{core}.multiarray._reconstruct": _reconstruct for core in _NUMPY_CORES},
    **{f"{core}.multiarray.scalar": _scalar for core in _NUMPY_CORES},
    **{f"{core}.numeric._frombuffer": array for core in _NUMPY_CORES},
    **{f"{builtins}.bytes": _bytes for builtins in _BUILTINS},
    **{f"{builtins}.set": _set for builtins in _BUILTINS},
    **{f"{builtins}.frozenset": _frozenset for builtins in _BUILTINS},
}


class GlobalLookup:
    """Gives the values of the globals that one file names, and collects the names that are refused."""

    def __init__(self) -> None:
        self.refused: set[str] = set()

    def find(self, module: str, name: str) -> Any:
        """The allowed function of that name, the dtype of a storage class, or a placeholder."""
        full_name = f"{module}.{name}"
        if module == "torch" and name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[name]
        if full_name in _FUNCTIONS:
            return AllowedFunction(full_name, _FUNCTIONS[full_name])
        if full_name == "numpy.dtype":
            return AllowedFunction(full_name, self._numpy_dtype)
        # `numpy.ndarray` is only an argument of `_reconstruct`; calling it gives a placeholder.
        return Placeholder(full_name) if full_name == "numpy.ndarray" else self._refuse(full_name)

    def _numpy_dtype(self, code: Any, *_: Any) -> Placeholder:
        if type(code) is str and _NUMPY_DTYPE.fullmatch(code):
            return NumpyDtype(np.dtype(code))
        return self._refuse(f"numpy.dtype({code if type(code) is str else type(code).__name__})")

    def _refuse(self, name: str) -> Placeholder:
        readable = one_line(name)
        self.refused.add(readable)
        return Placeholder(readable)
