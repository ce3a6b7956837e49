"""The storages of tensors in torch's two file formats, read and checked."""

import mmap
import struct
import zipfile
from typing import Any

import numpy as np
import torch

from samebox.checkpoints.machine import BrokenPickleError, Placeholder
from samebox.checkpoints.rebuild import Storage

_MAX_KEY = 100  # characters of a storage's name, which torch counts from 0


class ZipStorages:
    """The storages of a torch zip archive: the members `<root>data/<key>`, each read on first use."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        self.archive = archive
        self.root = root
        self.memories: dict[str, torch.UntypedStorage] = {}

    def load(self, identifier: Any) -> Storage:
        """The storage of a persistent id. Raises BrokenPickleError if its size is not the member's."""
        key, dtype, count = _fields(identifier, 5)
        member = self.archive.getinfo(f"{self.root}data/{key}")
        if member.file_size != count * dtype.itemsize:
            raise BrokenPickleError(f"a storage of {count} elements with {member.file_size} bytes")
        if key not in self.memories:
            self.memories[key] = torch.UntypedStorage(member.file_size)
            _fill(self.memories[key], self.archive.read(member))
        return Storage(self.memories[key], dtype)


class LegacyStorages:
    """The storages of torch's format before version 1.6. Their bytes follow the pickle that names them.

    `file_size` is in bytes; all storages together cannot be larger.
    """

    def __init__(self, file_size: int) -> None:
        self.remaining_bytes = file_size
        self.unfilled: dict[str, tuple[Storage, int]] = {}

    def load(self, identifier: Any) -> Storage | Placeholder:
        """The storage of a persistent id, which `fill` fills later; for a network's class its placeholder."""
        if type(identifier) is tuple and len(identifier) == 4 and isinstance(identifier[1], Placeholder):
            # ("module", class, source file, source code), in the pickle of a whole network
            return identifier[1]
        key, dtype, count = _fields(identifier, 6)
        if key not in self.unfilled:
            self.remaining_bytes -= count * dtype.itemsize
            if self.remaining_bytes < 0:
                raise BrokenPickleError("storages larger than the file")
            self.unfilled[key] = Storage(torch.UntypedStorage(count * dtype.itemsize), dtype), count
        storage, first_count = self.unfilled[key]
        if (storage.dtype, first_count) != (dtype, count):
            raise BrokenPickleError("a storage with two types or sizes")
        return storage

    def fill(self, keys: Any, stream: mmap.mmap) -> None:
        """Read the storages in the order of `keys`: for each its element count, then its bytes."""
        if type(keys) is not list or len(keys) != len(self.unfilled):
            raise BrokenPickleError("storages whose bytes are missing")
        for key in keys:
            storage, count = self.unfilled.pop(key if type(key) is str else "")
            if struct.unpack("<q", stream.read(8)) != (count,):
                raise BrokenPickleError("a storage of another size than its tensors state")
            _fill(storage.memory, stream.read(storage.memory.nbytes()))


def _fields(identifier: Any, length: int) -> tuple[str, torch.dtype, int]:
    """The key, the dtype and the element count in the persistent id of a storage."""
    if type(identifier) is not tuple or len(identifier) != length:
        raise BrokenPickleError("a persistent id that does not name a storage")
    kind, dtype, key, _, count, *views = identifier
    if type(kind) is not str or kind != "storage" or type(key) is not str or len(key) > _MAX_KEY:
        raise BrokenPickleError("a persistent id that does not name a storage")
    if not isinstance(dtype, torch.dtype) or type(count) is not int or count < 0:
        raise BrokenPickleError("a storage of an unknown type or size")
    if any(view is not None for view in views):
        raise BrokenPickleError("a view of a storage, which torch wrote before version 0.4")
    return key, dtype, count


def _fill(memory: torch.UntypedStorage, data: bytes) -> None:
    if len(data) != memory.nbytes():
        raise BrokenPickleError("a storage whose bytes end early")
    torch.empty(0, dtype=torch.uint8).set_(memory).numpy()[:] = np.frombuffer(data, np.uint8)
