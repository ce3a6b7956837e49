"""What a checkpoint may name, and our own functions that rebuild it from checked plain values."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from samebox.checkpoints.machine import BrokenPickleError, Known, Placeholder, dict_from_flat, plain_key
from samebox.core.errors import one_line

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
_MOST_AXES = 16


@dataclass(frozen=True)
class Storage:
    """The bytes that tensors are views of, and the type of their elements."""

    memory: torch.UntypedStorage
    dtype: torch.dtype


class ScalarType(Placeholder):
    """A numpy scalar type; its state may only say that the bytes are little-endian."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        super().__init__("numpy.dtype")
        self.dtype = dtype

    def build(self, state: Any) -> "ScalarType":
        """The type itself. Raises BrokenPickleError for big-endian numbers."""
        if type(state) is not tuple or len(state) < 2 or state[1] not in ("<", "|", "="):
            raise BrokenPickleError("numpy numbers that are not little-endian")
        return self


class UnbuiltArray(Placeholder):
    """A numpy array as pickle first makes it, empty; its state brings shape, type and bytes."""

    def build(self, state: Any) -> Any:
        """The array, or this placeholder if it is one of objects."""
        _, shape, dtype, fortran, data = state
        return array(data, dtype, shape, "F" if fortran else "C") if isinstance(dtype, ScalarType) else self


def array(data: Any, dtype: Any, shape: Any, order: Any = "C") -> Any:
    """The array of these raw bytes. Python 2 wrote them as text, which is read as latin-1."""
    if not isinstance(dtype, ScalarType):
        return Placeholder("numpy.ndarray")
    raw = data.encode("latin-1") if type(data) is str else data
    if type(raw) not in (bytes, bytearray) or order not in ("C", "F"):
        raise BrokenPickleError("a numpy array without bytes")
    sizes = _naturals(shape)
    if len(raw) != math.prod(sizes) * dtype.dtype.itemsize:
        raise BrokenPickleError(f"a numpy array of shape {shape} with {len(raw)} bytes")
    return np.frombuffer(raw, dtype.dtype).reshape(sizes, order=order).copy()


def tensor(
    storage: Any, offset: Any, sizes: Any, strides: Any, _grad: Any = 0, _hooks: Any = 0, bits: Any = None
) -> torch.Tensor:
    """The view of `storage` that starts at `offset`, in elements. It may not reach outside the storage.

    Raises BrokenPickleError too for a view of more elements than its storage has (copying it would
    multiply the file's size at will) and for pending operations (`bits`, of complex tensors).
    """
    if not isinstance(storage, Storage) or bits:
        raise BrokenPickleError("a tensor without a storage")
    sizes, strides, (offset,) = _naturals(sizes), _naturals(strides), _naturals((offset,))
    if len(sizes) != len(strides):
        raise BrokenPickleError("a tensor with a stride too many or too few")
    held = storage.memory.nbytes() // storage.dtype.itemsize
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    count = math.prod(sizes)
    if count > held or (count and last >= held) or offset > held:
        raise BrokenPickleError(
            f"a tensor of shape {sizes}, strides {strides}, offset {offset} outside its {held} elements"
        )
    return torch.empty(0, dtype=storage.dtype).set_(storage.memory, offset, sizes, strides)


def _naturals(values: Any) -> tuple[int, ...]:
    """`values` as a tuple of integers from 0 that torch and numpy can hold."""
    if type(values) not in (tuple, list) or len(values) > _MOST_AXES:
        raise BrokenPickleError("a shape that is none")
    if not all(type(value) is int and 0 <= value < 2**62 for value in values):
        raise BrokenPickleError("a shape, stride or offset out of range")
    return tuple(values)


def _parameter(data: Any, *_: Any) -> torch.Tensor:
    if not isinstance(data, torch.Tensor):
        raise BrokenPickleError("a parameter without a tensor")
    return data


def _scalar(dtype: Any, data: Any = b"") -> Any:
    """The Python number of a numpy scalar, or a placeholder for one of another type."""
    made = array(data, dtype, ())
    return made if isinstance(made, Placeholder) else made.item()


def _reconstruct(kind: Any, *_: Any) -> Placeholder:
    """An array still to be built; of a subclass of numpy's array, a plain placeholder."""
    if not isinstance(kind, Placeholder):
        raise BrokenPickleError("an array without its class")
    return UnbuiltArray(kind.name) if kind.name == "numpy.ndarray" else Placeholder(kind.name)


def _bytes(text: Any = "", encoding: Any = "latin1") -> bytes:
    """How protocol 2 writes bytes: as text, one character a byte."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise BrokenPickleError("text encoded otherwise than as latin-1")
    return text.encode("latin-1")


def _dict(pairs: Any = ()) -> dict[Any, Any]:
    flat = [part for key, value in _items(pairs) for part in (key, value)]
    return dict_from_flat(flat)


def _set(items: Any = ()) -> set[Any]:
    return set(map(plain_key, _items(items)))


def _frozenset(items: Any = ()) -> frozenset[Any]:
    return frozenset(_set(items))


def _items(items: Any) -> list[Any] | tuple[Any, ...]:
    if type(items) not in (list, tuple):
        raise BrokenPickleError(f"a collection made of a {type(items).__name__}")
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


class Names:
    """Answers the globals of one file and keeps the names of those it refused."""

    def __init__(self) -> None:
        self.refused: set[str] = set()

    def find(self, module: str, name: str) -> Any:
        """Our own function under the file's name for it, a storage's dtype, or a placeholder."""
        full = f"{module}.{name}"
        if module == "torch" and name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[name]
        if full in _FUNCTIONS:
            return Known(full, _FUNCTIONS[full])
        if full == "numpy.dtype":
            return Known(full, self._scalar_type)
        # `numpy.ndarray` only names the class to `_reconstruct`: calling it makes a placeholder.
        return Placeholder(full) if full == "numpy.ndarray" else self._refuse(full)

    def _scalar_type(self, code: Any, *_: Any) -> Placeholder:
        if type(code) is str and _NUMPY_DTYPE.fullmatch(code):
            return ScalarType(np.dtype(code))
        return self._refuse(f"numpy.dtype({code if type(code) is str else type(code).__name__})")

    def _refuse(self, name: str) -> Placeholder:
        readable = one_line(name)
        self.refused.add(readable)
        return Placeholder(readable)
