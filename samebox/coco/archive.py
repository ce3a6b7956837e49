"""A data set's archives: download, check, unpack."""

import lzma
import shutil
import struct
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from samebox.core.errors import SameboxError
from samebox.core.fetch import fetch
from samebox.core.files import atomic_write
from samebox.core.text import one_line

_MAX_RATIO = 100  # unpacked bytes per byte of a zip; COCO's annotations have 4, and a bomb 1,000
_MIN_LIMIT = 64 << 20  # bytes that a zip of any size may have unpacked
_DAMAGED = (  # raised by zipfile and the decompressors, also for an encrypted entry and an unknown method
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
)


def download_archive(archive: Mapping[str, Any]) -> None:
    """Download the zip at `archive["source"]` and unpack it into `archive["folder"]`, unless already done.

    `bytes` is the expected size of the zip. `only` lists the entries to unpack (default: all); a zip among
    them is unpacked as well, into its own folder. Each zip is deleted after unpacking, and an empty file
    NAME.unpacked records that the download is complete. Raises SameboxError if the zip cannot be downloaded,
    has another size or is damaged.
    """
    folder = Path(archive["folder"])
    path = folder / Path(urlsplit(str(archive["source"])).path).name
    marker = path.with_name(f"{path.name}.unpacked")
    if marker.exists():
        return
    if not path.exists() or path.stat().st_size != archive["bytes"]:
        fetch(archive["source"], path, size=archive["bytes"])
    if path.stat().st_size != archive["bytes"]:
        raise SameboxError(
            f"{path}: {path.stat().st_size} bytes instead of {archive['bytes']}; delete it and try again"
        )
    only, limit = archive.get("only", ()), _limit(path)
    unpack(path, folder, only, limit)
    for inner in (folder / name for name in only if name.endswith(".zip")):
        unpack(inner, inner.parent, limit=limit)
        inner.unlink()
    marker.touch()
    path.unlink()


def unpack(path: Path, folder: Path, only: Collection[str] = (), limit: int | None = None) -> None:
    """Unpack a zip. Each file is written whole or not at all; files that already have their full size stay.

    `only` lists the entries to unpack; empty means all. `limit` is the number of bytes that they may have
    together, by default 100 times the size of the zip, or 64 MiB if that is more. Raises SameboxError for a
    damaged or encrypted archive, for entries above the limit, for a listed entry that the archive lacks, for
    a path that leads out of `folder`, and if a file cannot be written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _entries(archive, path, only)
            _check_size(entries, path, _limit(path) if limit is None else limit)
            for entry in entries:
                _unpack_entry(archive, entry, path, folder)
    except _DAMAGED as error:
        reason = one_line(error) or type(error).__name__
        raise SameboxError(f"{path}: a damaged archive ({reason}); delete it and try again") from None
    except OSError as error:
        reason = error.strerror or one_line(error)  # bz2's errors have no strerror
        raise SameboxError(f"{path}: cannot be unpacked to {folder} ({reason})") from None


def _entries(archive: zipfile.ZipFile, path: Path, only: Collection[str]) -> list[zipfile.ZipInfo]:
    """The entries to unpack, without folders."""
    if missing := set(only).difference(archive.namelist()):
        raise SameboxError(f"{path}: no entry {min(missing)}; list in `only` entries that the archive has")
    wanted = [entry for entry in archive.infolist() if not only or entry.filename in only]
    return [entry for entry in wanted if not entry.is_dir()]


def _limit(path: Path) -> int:
    """The number of bytes that a zip may have unpacked."""
    return max(_MIN_LIMIT, _MAX_RATIO * path.stat().st_size)


def _check_size(entries: Collection[zipfile.ZipInfo], path: Path, limit: int) -> None:
    size = sum(entry.file_size for entry in entries)
    if size > limit:
        raise SameboxError(
            f"{path}: {size / 1e6:.0f} MB unpacked, more than {limit / 1e6:.0f} MB, the limit for an archive "
            "of its size; unpack it yourself if you trust it"
        )


def _unpack_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, folder: Path) -> None:
    """Write one file, of at most the size that the archive states for it."""
    target = (folder / entry.filename).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise SameboxError(f"{path}: the entry {entry.filename!r} leads out of {folder}; refused")
    if target.is_file() and target.stat().st_size == entry.file_size:
        return
    with archive.open(entry) as packed, atomic_write(target) as aside, aside.open("wb") as file:
        shutil.copyfileobj(packed, file)  # zipfile ends at the stated size
        if file.tell() != entry.file_size:
            raise zipfile.BadZipFile(f"{entry.filename}: {file.tell()} bytes instead of {entry.file_size}")
