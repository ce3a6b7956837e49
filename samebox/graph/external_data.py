"""The check of the external data of an ONNX file, which needs no package: tensors stored in files beside it.

ONNX Runtime before 1.24 reads any file that the ONNX file names, and any address of the memory. So the names
are read here first, from the encoding of Protocol Buffers (protobuf.dev/programming-guides/encoding).
"""

import mmap
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from samebox.core.errors import SameboxError
from samebox.core.files import existing
from samebox.core.text import one_line

_MAX_DEPTH = 100  # nested messages, as in Google's parser
_MAX_FIELDS = 2_000_000  # a network has ten thousand nodes of ten fields
_BLOCK = 1 << 20
_LOCATION = b"location"  # the key of the entry of a tensor that names its file

# onnx.proto: message → field number → message of the field, for all messages that lead to tensors
_FIELDS = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
    "Entry": {1: "Key", 2: "Value"},
}


def check_external_data(path: Path) -> None:
    """Raise SameboxError if the ONNX file names external data that is not a file below its own folder."""
    folder = existing(path).resolve().parent
    for location in external_data_locations(path):
        target = (folder / location).resolve()
        outside = PureWindowsPath(location).is_absolute() or not target.is_relative_to(folder)
        if outside or not target.is_file():
            reason = f"is outside {folder}" if outside else "is no file"
            raise SameboxError(
                f"{path}: its external data {one_line(location)!r} {reason}; export it again, in one file"
            )


def external_data_locations(path: Path) -> set[str]:
    """The files that the tensors of an ONNX file name, as they are written there.

    Raises SameboxError if the file is not encoded as an ONNX file.
    """
    if not path.is_file() or not _contains(path, _LOCATION):
        return set()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return set(_locations(content))
        except (ValueError, IndexError) as error:
            raise SameboxError(f"{path}: not an ONNX file ({error}); export it again") from None


def _contains(path: Path, text: bytes) -> bool:
    """Whether the file has the bytes. Most files have not, and need no further reading."""
    with path.open("rb") as file:
        end = b""
        while block := file.read(_BLOCK):
            if text in end + block:
                return True
            end = block[1 - len(text) :]
    return False


def _locations(content: mmap.mmap) -> Iterator[str]:
    """The values of all entries `location` in the model."""
    count = 0
    messages = [("Model", 0, len(content), 0)]
    while messages:
        kind, start, end, depth = messages.pop()
        if depth > _MAX_DEPTH:
            raise ValueError("messages nested too deeply")
        parts: dict[str, bytes] = {}
        for number, first, last in _fields(content, start, end):
            count += 1
            if count > _MAX_FIELDS:
                raise ValueError("too many fields")
            inner = _FIELDS[kind].get(number)
            if inner in _FIELDS:
                messages.append((inner, first, last, depth + 1))
            elif inner is not None:
                parts[inner] = content[first:last]
        if parts.get("Key") == _LOCATION:
            yield parts.get("Value", b"").decode("utf-8", "surrogateescape")


def _fields(content: mmap.mmap, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The number, start and end of each field with a length, in the message from `position` to `end`."""
    while position < end:
        tag, position = _varint(content, position)
        wire_type = tag & 7
        if wire_type == 0:
            _, position = _varint(content, position)
        elif wire_type == 1:
            position += 8
        elif wire_type == 5:
            position += 4
        elif wire_type == 2:
            length, position = _varint(content, position)
            yield tag >> 3, position, position + length
            position += length
        else:
            raise ValueError(f"a field of the wire type {wire_type}")
        if position > end:
            raise ValueError("a field that is longer than its message")


def _varint(content: mmap.mmap, position: int) -> tuple[int, int]:
    """The integer of variable length at `position`, and the position behind it."""
    value = shift = 0
    while True:
        byte = content[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number of over 64 bits")
