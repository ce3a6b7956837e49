"""A data set's archives: download, check, unpack."""

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
    marker.touch()
    path.unlink()


def unpack(path: Path, folder: Path, only: Collection[str] = ()) -> None:
    """Unpack a zip. Each file is written whole or not at all; files that already have their full size stay.

    `only` lists the entries to unpack; empty means all. Raises SameboxError for a damaged archive, for a
    listed entry that the archive lacks, and for a path that leads out of `folder`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if missing := set(only).difference(archive.namelist()):
                raise SameboxError(
                    f"{path}: no entry {min(missing)}; list in `only` entries that the archive has"
                )
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
