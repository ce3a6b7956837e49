"""Reading checkpoints without running any code that they contain."""

import io
import mmap
import re
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch

from samebox.checkpoints.machine import BrokenPickleError, PickleMachine, Placeholder
from samebox.checkpoints.rebuild import GlobalLookup
from samebox.checkpoints.storages import LegacyStorages, ZipStorages
from samebox.core.errors import SameboxError
from samebox.core.files import existing
from samebox.core.text import one_line, printable
from samebox.record.spec import MAX_CLASSES, MAX_NAME

_MAX_PICKLE_BYTES = 64 << 20  # of data.pkl in a torch zip, which has no weights; usually below 1 MB
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_BIG_ENDIAN = "contains big-endian tensors; save it again on a little-endian machine"
SAFETENSORS = "a safetensors file, which samebox does not read yet; save its tensors with torch.save"
_STATE_KEYS = ("state_dict", "model", "blobs")  # MMDetection; detectron2 and DETR; Detectron
_BROKEN = (  # raised by zipfile, pickletools, numpy and torch for damaged files
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
    """The content of a checkpoint file, read without running its code.

    `state` maps parameter names to tensors that do not require gradients; tensors that share a storage in
    the file share it here. `meta` is MMDetection's own metadata, with a `Placeholder` for each refused value.
    `refused` are the names of classes and functions that were refused, sorted.
    """

    path: Path
    state: dict[str, torch.Tensor]
    meta: dict[str, Any]
    refused: tuple[str, ...]

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The classes in label order, `printable`, if MMDetection 3 or 2 recorded them, else None."""
        dataset = self.meta.get("dataset_meta")
        for holder in (dataset if isinstance(dataset, dict) else {}, self.meta):
            for key in ("classes", "CLASSES"):
                names = holder.get(key)
                if _are_names(names):
                    return tuple(map(printable, names))
        return None

    def refusal_line(self) -> str | None:
        """One line for the user with the names that were refused, or None if the file has plain data only."""
        if not self.refused:
            return None
        return f"{self.path.name}: read without running the code that it names ({_abbreviated(self.refused)})"


def read_checkpoint(path: str | Path) -> Checkpoint:
    """The tensors and plain values of a checkpoint. No code that it names is imported or run.

    Reads torch's zip archives, torch's format before version 1.6, and detectron2's pickles of numpy arrays.
    Raises SameboxError for other files, for damaged or hostile ones, and for files without tensors.
    """
    path = existing(path)
    if not path.is_file():
        kind = "a directory" if path.is_dir() else "not a regular file"
        raise SameboxError(f"{path}: {kind}; give the path of the checkpoint file")
    lookup = GlobalLookup()
    try:
        content = _content(path, lookup)
    except BrokenPickleError as error:
        raise SameboxError(f"{path}: not a valid checkpoint: {one_line(error)}; download it again") from None
    except _BROKEN as error:
        reason = one_line(error) or type(error).__name__
        raise SameboxError(f"{path}: damaged or unreadable ({reason}); download it again") from None
    refused = tuple(sorted(lookup.refused))
    return Checkpoint(path, _state(path, content, refused), _meta(content), refused)


def _content(path: Path, lookup: GlobalLookup) -> Any:
    """The object that was saved, from a file in any of the three formats."""
    with path.open("rb") as file:
        head = file.read(24)
        if head.startswith(b"PK\x03\x04"):
            return _zip_content(path, lookup)
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:  # JSON's length
            raise SameboxError(f"{path}: {SAFETENSORS}")
        if not head.startswith(b"\x80"):  # the first opcode of every pickle from protocol 2 on
            reason = f"begins with {head!r}" if head else "is empty"
            raise SameboxError(f"{path}: neither a torch file nor a pickle ({reason}); download it again")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
            first = PickleMachine(lookup.find).run(stream)
            is_legacy = type(first) is int and first == _LEGACY_MAGIC
            return _legacy_content(path, stream, lookup) if is_legacy else first


def _zip_content(path: Path, lookup: GlobalLookup) -> Any:
    """The content of a torch zip archive. All members except its data.pkl are read as raw bytes only."""
    with zipfile.ZipFile(path) as archive:
        _refuse_bomb(path, archive)
        pickles = [name for name in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(pickles) != 1:
            raise SameboxError(
                f"{path}: a zip archive without exactly one data.pkl; give a file of torch.save"
            )
        if archive.getinfo(pickles[0]).file_size > _MAX_PICKLE_BYTES:
            raise SameboxError(
                f"{path}: data.pkl is over {_MAX_PICKLE_BYTES >> 20} MiB; save only the state_dict()"
            )
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in archive.NameToInfo and archive.read(f"{root}byteorder") != b"little":
            raise SameboxError(f"{path}: {_BIG_ENDIAN}")
        machine = PickleMachine(lookup.find, ZipStorages(archive, root).load)
        return machine.run(io.BytesIO(archive.read(pickles[0])))


def _refuse_bomb(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise SameboxError for compressed or repeated members.

    Torch does not compress, so the members of its archives together are not larger than the file.
    """
    members = archive.infolist()
    compressed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if compressed or sum(member.file_size for member in members) > path.stat().st_size:
        raise SameboxError(f"{path}: a compressed zip archive, not written by torch.save; download it again")
    if len(archive.NameToInfo) != len(members):
        raise SameboxError(f"{path}: a zip archive with two members of the same name; download it again")


def _legacy_content(path: Path, stream: mmap.mmap, lookup: GlobalLookup) -> Any:
    """The content of a file in torch's format before version 1.6, read from behind the magic number.

    The file continues with the version, the system, the content, the keys of its storages, and their bytes.
    """
    version, system = PickleMachine(lookup.find).run(stream), PickleMachine(lookup.find).run(stream)
    if type(version) is not int or version != _LEGACY_VERSION or not isinstance(system, dict):
        raise BrokenPickleError("an unknown version of torch's old format")
    if system.get("little_endian") is not True:
        raise SameboxError(f"{path}: {_BIG_ENDIAN}")
    storages = LegacyStorages(len(stream))
    content = PickleMachine(lookup.find, storages.load).run(stream)
    storages.fill(PickleMachine(lookup.find).run(stream), stream)
    return content


def _state(path: Path, content: Any, refused: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """The state dict: the value of one of its usual keys, or else the content itself."""
    hint = "save only the network's state_dict()"
    top = content if isinstance(content, dict) else {}
    nested = [top[key] for key in _STATE_KEYS if isinstance(top.get(key), dict)]
    state = nested[0] if nested else top
    others = [name for name, value in state.items() if not (isinstance(name, str) and _is_tensor(value))]
    if not state or (others and not nested):
        reason = f", but names code that was not run ({_abbreviated(refused)})" if refused else ""
        raise SameboxError(f"{path}: contains no state dict of tensors{reason}; {hint}")
    if others:
        value = state[others[0]]
        kind = value.name if isinstance(value, Placeholder) else type(value).__name__
        raise SameboxError(
            f"{path}: {one_line(others[0])!r} in its state dict is a {kind}, not a tensor; {hint}"
        )
    return {name: torch.as_tensor(value) for name, value in state.items()}


def _are_names(values: Any) -> TypeGuard[list[str] | tuple[str, ...]]:
    if not isinstance(values, list | tuple) or not 0 < len(values) <= MAX_CLASSES:
        return False
    return all(isinstance(value, str) and len(value) <= MAX_NAME for value in values)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind not in "SU")


def _meta(content: dict[Any, Any]) -> dict[str, Any]:
    meta = content.get("meta")
    return meta if isinstance(meta, dict) else {}


def _abbreviated(names: tuple[str, ...], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
