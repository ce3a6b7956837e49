"""A data set's archives: fetched, checked, unpacked."""

import shutil
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from samebox.core.errors import SameboxError
from samebox.core.fetch import fetch
from samebox.core.files import atomic_write


def download_archive(archive: Mapping[str, Any]) -> None:
    """Unpack the zip at `archive["source"]` into `archive["folder"]`, unless that was done before.

    `bytes` is the size that the zip must have. `only` names the entries that are wanted, all where it is
    absent; a zip among them is unpacked in turn, beside itself. A zip is deleted once unpacked, and a file
    that says so is left in place of the first. Raises SameboxError where it cannot be had, or is not what was
    expected.
    """
    folder = Path(archive["folder"])
    path = folder / Path(urlsplit(str(archive["source"])).path).name
    finished = path.with_name(f"{path.name}.unpacked")
    if finished.exists():
        return
    if not path.exists() or path.stat().st_size != archive["bytes"]:
        fetch(archive["source"], path)
    if path.stat().st_size != archive["bytes"]:
        raise SameboxError(
            f"{path}: {path.stat().st_size} bytes instead of {archive['bytes']}; delete it and try again"
        )
    only = archive.get("only", ())
    unpack(path, folder, only)
    for inner in (folder / name for name in only if name.endswith(".zip")):
        unpack(inner, inner.parent)
        inner.unlink()
    finished.touch()
    path.unlink()


def unpack(path: Path, folder: Path, only: Collection[str] = ()) -> None:
    """Unpack a zip, each file whole or not at all; those that lie there in their full size stay.

    `only` names the entries to unpack, all where it is empty. Raises SameboxError for a damaged archive, for
    one that lacks such an entry, and for one with a path that leads out of `folder`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if missing := set(only).difference(archive.namelist()):
                raise SameboxError(f"{path}: no entry {min(missing)}; name in `only` what the archive has")
            wanted = [entry for entry in archive.infolist() if not only or entry.filename in only]
            for entry in wanted:
                target = (folder / entry.filename).resolve()
                if not target.is_relative_to(folder.resolve()):
                    raise SameboxError(f"{path}: the entry {entry.filename!r} leads out of {folder}; refused")
                if entry.is_dir() or (target.exists() and target.stat().st_size == entry.file_size):
                    continue
                with archive.open(entry) as packed, atomic_write(target) as aside, aside.open("wb") as file:
                    shutil.copyfileobj(packed, file)
    except (zipfile.BadZipFile, EOFError) as error:
        raise SameboxError(f"{path}: a damaged archive ({error}); delete it and try again") from None
