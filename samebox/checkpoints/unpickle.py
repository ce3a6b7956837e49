"""Checkpoints, read without running anything that they hold."""

import io
import mmap
import re
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from samebox.checkpoints.machine import BrokenPickleError, Machine, Placeholder
from samebox.checkpoints.rebuild import Names
from samebox.checkpoints.storages import LegacyStorages, ZipStorages
from samebox.core.errors import SameboxError, one_line
from samebox.core.files import existing

_LARGEST_PICKLE = 64 << 20  # bytes of a torch zip's data.pkl, which holds no weights; usual is below 1 MB
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_BIG_ENDIAN = "big-endian tensors; save it again on a little-endian machine"
_STATE_KEYS = ("state_dict", "model", "blobs")  # MMDetection; detectron2 and DETR; Detectron
_BROKEN = (  # what zipfile, pickletools, numpy and torch raise for damaged input, beside our own
    zipfile.BadZipFile,
    struct.error,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    EOFError,
    OSError,
    MemoryError,
)


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds, as far as it can be read without running its code.

    `state` maps parameter names to tensors that do not require gradients; those that share a storage in
    the file share it here. `meta` is MMDetection's own record, where a `Placeholder` stands for whatever
    was refused. `refused` are the foreign names the file asked for, sorted.
    """

    path: Path
    state: dict[str, torch.Tensor]
    meta: dict[str, Any]
    refused: tuple[str, ...]

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The classes the network was trained on, in label order, as MMDetection 3 or 2 records them."""
        dataset = self.meta.get("dataset_meta")
        for holder in (dataset if isinstance(dataset, dict) else {}, self.meta):
            for key in ("classes", "CLASSES"):
                names = holder.get(key)
                if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
                    return tuple(names)
        return None

    def refusal_line(self) -> str | None:
        """One line for the user on what was not run, or None if the file held plain data alone."""
        if not self.refused:
            return None
        plural = "s" if len(self.refused) > 1 else ""
        count = f"{len(self.refused)} foreign name{plural}"
        return f"{self.path.name}: read without running {count} ({_some(self.refused)})"


def read_checkpoint(path: str | Path) -> Checkpoint:
    """The tensors and plain values of a checkpoint; no code that it names is ever imported or run.

    Reads torch files, both zip archives and those of before torch 1.6, and detectron2's pickles of numpy
    arrays. Raises SameboxError for everything else, for damaged or hostile files, and for a file that
    holds no tensors.
    """
    path = existing(path)
    if path.is_dir():
        raise SameboxError(f"{path}: a directory; name the checkpoint file in it")
    names = Names()
    try:
        content = _content(path, names)
    except BrokenPickleError as error:
        raise SameboxError(f"{path}: not a sound checkpoint: {one_line(error)}; fetch it again") from None
    except _BROKEN as error:
        reason = one_line(error) or type(error).__name__
        raise SameboxError(f"{path}: damaged or unreadable ({reason}); fetch it again") from None
    refused = tuple(sorted(names.refused))
    return Checkpoint(path, _state(path, content, refused), _meta(content), refused)


def _content(path: Path, names: Names) -> Any:
    """The object that the file was saved from, whichever of the three formats it has."""
    with path.open("rb") as file:
        head = file.read(24)
        if head.startswith(b"PK\x03\x04"):
            return _zip_content(path, names)
        if not head.startswith(b"\x80"):  # the first opcode of every pickle since protocol 2
            begins = f"begins with {head!r}" if head else "is empty"
            raise SameboxError(f"{path}: neither a torch file nor a pickle ({begins}); fetch it again")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
            first = Machine(names.find).run(stream)
            legacy = type(first) is int and first == _LEGACY_MAGIC
            return _legacy_content(path, stream, names) if legacy else first


def _zip_content(path: Path, names: Names) -> Any:
    """The content of a torch zip archive. No member but its pickle is read as more than raw bytes."""
    with zipfile.ZipFile(path) as archive:
        _refuse_bomb(path, archive)
        pickles = [name for name in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(pickles) != 1:
            raise SameboxError(f"{path}: a zip without one data.pkl; give a file that torch.save wrote")
        if archive.getinfo(pickles[0]).file_size > _LARGEST_PICKLE:
            raise SameboxError(
                f"{path}: data.pkl over {_LARGEST_PICKLE >> 20} MiB; save the state_dict() alone"
            )
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in archive.NameToInfo and archive.read(f"{root}byteorder") != b"little":
            raise SameboxError(f"{path}: {_BIG_ENDIAN}")
        machine = Machine(names.find, ZipStorages(archive, root).load)
        return machine.run(io.BytesIO(archive.read(pickles[0])))


def _refuse_bomb(path: Path, archive: zipfile.ZipFile) -> None:
    """Torch never compresses, so the members of its archives cannot hold more than the file does."""
    members = archive.infolist()
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if packed or sum(member.file_size for member in members) > path.stat().st_size:
        raise SameboxError(f"{path}: a compressed zip archive, which torch.save never writes; fetch it again")
    if len(archive.NameToInfo) != len(members):
        raise SameboxError(f"{path}: a zip archive with two members of one name; fetch it again")


def _legacy_content(path: Path, stream: mmap.mmap, names: Names) -> Any:
    """The content of a torch file of before 1.6, from behind its magic number.

    There follow the version, the system, the content, the keys of its storages, and their bytes.
    """
    version, system = Machine(names.find).run(stream), Machine(names.find).run(stream)
    if type(version) is not int or version != _LEGACY_VERSION or not isinstance(system, dict):
        raise BrokenPickleError("an unknown version of torch's old format")
    if system.get("little_endian") is not True:
        raise SameboxError(f"{path}: {_BIG_ENDIAN}")
    storages = LegacyStorages(len(stream))
    content = Machine(names.find, storages.load).run(stream)
    storages.fill(Machine(names.find).run(stream), stream)
    return content


def _state(path: Path, content: Any, refused: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """The state dict: what stands under one of its usual keys, or the content itself."""
    mend = "save the network's state_dict() alone"
    held = content if isinstance(content, dict) else {}
    nested = [held[key] for key in _STATE_KEYS if isinstance(held.get(key), dict)]
    named = nested[0] if nested else held
    odd = [name for name, value in named.items() if not (isinstance(name, str) and _is_tensor(value))]
    if not named or (odd and not nested):
        because = f", but asks for foreign code ({_some(refused)})" if refused else ""
        raise SameboxError(f"{path}: holds no state dict of tensors{because}; {mend}")
    if odd:
        value = named[odd[0]]
        kind = value.name if isinstance(value, Placeholder) else type(value).__name__
        raise SameboxError(f"{path}: {one_line(odd[0])!r} in its state dict is a {kind}, no tensor; {mend}")
    return {name: torch.as_tensor(value) for name, value in named.items()}


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind not in "SU")


def _meta(content: dict[Any, Any]) -> dict[str, Any]:
    meta = content.get("meta")
    return meta if isinstance(meta, dict) else {}


def _some(names: tuple[str, ...], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
