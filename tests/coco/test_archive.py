import contextlib
import errno
import io
import struct
import zipfile
from pathlib import Path

import pytest

from samebox.coco import archive
from samebox.coco.archive import download_archive, unpack
from samebox.core.errors import SameboxError

FILES = {"val/1.jpg": b"first" * 1000, "val/2.jpg": b"second" * 1000, "annotations/val.json": b"{}"}


@pytest.fixture
def packed(tmp_path):
    return pack(tmp_path / "source" / "set.zip", FILES)


def pack(path, files):
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


def record(source, folder):
    return {"source": str(source), "folder": str(folder), "bytes": source.stat().st_size}


def unpacked(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_archive_is_unpacked_and_deleted(packed, tmp_path):
    download_archive(record(packed, tmp_path / "data"))
    assert unpacked(tmp_path / "data") == FILES | {"set.zip.unpacked": b""}
    assert packed.exists()


def test_an_unpacked_archive_is_not_unpacked_again(packed, tmp_path):
    archive_record = record(packed, tmp_path / "data")
    download_archive(archive_record)
    (tmp_path / "data/val/1.jpg").write_bytes(b"my own")
    packed.unlink()
    download_archive(archive_record)
    assert (tmp_path / "data/val/1.jpg").read_bytes() == b"my own"


def test_two_archives_share_a_folder(packed, tmp_path):
    other = pack(tmp_path / "source" / "more.zip", {"val/3.jpg": b"third"})
    for source in (packed, other):
        download_archive(record(source, tmp_path / "data"))
    assert {name for name in unpacked(tmp_path / "data") if "unpacked" not in name} == {*FILES, "val/3.jpg"}


def nested_zip(folder):
    inner = pack(folder / "source" / "inner.zip", {"png/1.png": b"one", "png/2.png": b"two"})
    entries = {"annotations/val.json": b"{}", "annotations/train.json": b"{}"}
    return pack(folder / "source" / "set.zip", entries | {"annotations/val.zip": inner.read_bytes()})


def test_only_the_listed_entries_and_zips_among_them_are_unpacked(tmp_path):
    only = {"only": ["annotations/val.json", "annotations/val.zip"]}
    download_archive(record(nested_zip(tmp_path), tmp_path / "data") | only)
    assert unpacked(tmp_path / "data") == {
        "annotations/val.json": b"{}",
        "annotations/png/1.png": b"one",
        "annotations/png/2.png": b"two",
        "set.zip.unpacked": b"",
    }


def test_a_listed_entry_that_is_missing_is_named(tmp_path):
    archive_record = record(nested_zip(tmp_path), tmp_path / "data") | {"only": ["annotations/test.json"]}
    with pytest.raises(SameboxError, match=r"set\.zip: no entry annotations/test\.json"):
        download_archive(archive_record)
    assert not (tmp_path / "data/set.zip.unpacked").exists()


def test_an_archive_of_another_size_is_an_error(packed, tmp_path):
    archive_record = record(packed, tmp_path / "data") | {"bytes": 12}
    with pytest.raises(SameboxError, match=r"set\.zip: \d+ bytes instead of 12; delete it and try again"):
        download_archive(archive_record)
    assert not (tmp_path / "data/val").exists()


def test_a_complete_zip_is_not_downloaded_again(packed, tmp_path):
    archive_record = record(packed, tmp_path / "data")
    (tmp_path / "data").mkdir()
    packed.rename(tmp_path / "data" / packed.name)
    download_archive(archive_record)
    assert unpacked(tmp_path / "data") == FILES | {"set.zip.unpacked": b""}


@pytest.mark.parametrize("name", ["../outside.txt", "val/../../outside.txt", "/outside.txt"])
def test_an_entry_that_leads_out_of_the_folder_is_an_error(tmp_path, name):
    evil = pack(tmp_path / "source" / "evil.zip", {name: b"x"})
    with pytest.raises(SameboxError, match=r"evil\.zip: the entry .*outside\.txt' leads out of .*; refused"):
        download_archive(record(evil, tmp_path / "data"))
    assert not list(tmp_path.rglob("outside.txt"))
    assert not Path("/outside.txt").exists()
    assert not (tmp_path / "data/evil.zip.unpacked").exists()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "not a zip", "empty"])
def test_a_damaged_archive_is_an_error_and_does_not_count_as_unpacked(packed, tmp_path, damage):
    content = bytearray(packed.read_bytes())
    if damage == "flipped":
        content[content.index(b"firstfirst")] ^= 1
    damaged = {"truncated": content[:-30], "flipped": content, "not a zip": b"<html>", "empty": b""}[damage]
    packed.write_bytes(damaged)
    with pytest.raises(
        SameboxError, match=r"set\.zip: a damaged archive .*; delete it and try again"
    ) as error:
        download_archive(record(packed, tmp_path / "data"))
    assert "\n" not in str(error.value)
    assert set(unpacked(tmp_path / "data")) <= {"set.zip"}  # the damaged entry leaves no partial file


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["deflate", "bz2", "lzma"]
)
def test_any_broken_stream_is_an_error_of_one_line(tmp_path, method):
    path, content = tmp_path / "set.zip", bytes(range(256)) * 64
    with zipfile.ZipFile(path, "w", method) as packed:
        packed.writestr("val.json", content)
    whole = path.read_bytes()
    start = whole.index(b"val.json") + len(b"val.json")
    for position in range(start, whole.index(b"PK\x01\x02")):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        with contextlib.suppress(SameboxError):  # some bits are not used
            unpack(path, tmp_path / "data")
        assert unpacked(tmp_path / "data") in ({}, {"val.json": content})
        (tmp_path / "data/val.json").unlink(missing_ok=True)


def in_both_headers(content, offset, size, value):
    """The zip with a field of its only entry changed, in the local header and in the directory."""
    content = bytearray(content)
    central = content.index(b"PK\x01\x02")
    content[offset : offset + size] = content[central + offset + 2 : central + offset + 2 + size] = value
    return bytes(content)


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        pytest.param(6, struct.pack("<H", 1), id="encrypted"),
        pytest.param(6, struct.pack("<H", 0x41), id="strongly encrypted"),
        pytest.param(8, struct.pack("<H", 97), id="an unknown method"),
        pytest.param(4, struct.pack("<H", 99), id="a later version"),
        pytest.param(22, struct.pack("<I", 5), id="a smaller size than stated"),
        pytest.param(22, struct.pack("<I", 50_000_000), id="a larger size than stated"),
    ],
)
def test_what_cannot_be_unpacked_is_an_error_of_one_line(tmp_path, offset, value):
    path = pack(tmp_path / "source" / "set.zip", {"val.json": b"{}" * 1000})
    path.write_bytes(in_both_headers(path.read_bytes(), offset, len(value), value))
    with pytest.raises(SameboxError, match=r"set\.zip: a damaged archive \("):
        unpack(path, tmp_path / "data")
    assert not list((tmp_path / "data").rglob("*"))


@pytest.mark.parametrize(
    "files",
    [{"a" * 300: b""}, {"a/" * 3000 + "b": b""}, {"a": b"", "a/b": b""}, {"a/b": b"", "a": b""}],
    ids=["long", "deep", "a file as a folder", "a folder as a file"],
)
def test_names_that_cannot_be_written_are_an_error_of_one_line(tmp_path, files):
    with pytest.raises(SameboxError, match=r"set\.zip: cannot be unpacked to .* \(\w"):
        unpack(pack(tmp_path / "source" / "set.zip", files), tmp_path / "data")


def test_a_name_that_is_not_utf_8_is_an_error_of_one_line(tmp_path):
    path = pack(tmp_path / "source" / "set.zip", {"ü": b""})
    path.write_bytes(path.read_bytes().replace("ü".encode(), b"\xff\xfe"))
    with pytest.raises(SameboxError, match=r"set\.zip: a damaged archive"):
        unpack(path, tmp_path / "data")


@pytest.mark.parametrize("nested", [False, True])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch, nested):
    monkeypatch.setattr(archive, "_MIN_LIMIT", 100_000)
    path = tmp_path / "source" / "set.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("val.json", bytes(1_000_000))
    only = {}
    if nested:
        path.rename(path.with_name("val.zip"))
        pack(path, {"val.zip": path.with_name("val.zip").read_bytes()})
        only = {"only": ["val.zip"]}
    with pytest.raises(SameboxError, match=r"1 MB unpacked, more than 0 MB, the limit"):
        download_archive(record(path, tmp_path / "data") | only)
    assert not list(tmp_path.rglob("val.json"))


def test_after_an_interruption_only_missing_files_are_unpacked(packed, tmp_path, monkeypatch):
    folder, copied = tmp_path / "data", []
    (folder / "val").mkdir(parents=True)
    (folder / "val/1.jpg").write_bytes(FILES["val/1.jpg"])
    (folder / "val/2.jpg").write_bytes(b"half")
    copy = archive.shutil.copyfileobj
    monkeypatch.setattr(
        archive.shutil, "copyfileobj", lambda source, file: (copied.append(source.name), copy(source, file))
    )
    unpack(packed, folder)
    assert copied == ["val/2.jpg", "annotations/val.json"]
    assert unpacked(folder) == FILES


def test_a_failed_unpacking_leaves_no_partial_file(packed, tmp_path, monkeypatch):
    def broken(_, file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(archive.shutil, "copyfileobj", broken)
    with pytest.raises(SameboxError, match=r"set\.zip: cannot be unpacked to .*data \(no space left\)"):
        unpack(packed, tmp_path / "data")
    assert unpacked(tmp_path / "data") == {}


def test_folders_and_nested_files_are_created(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive_file:
        archive_file.writestr("empty/", "")
        archive_file.writestr("a/b/c.txt", "deep")
    (tmp_path / "deep.zip").write_bytes(buffer.getvalue())
    unpack(tmp_path / "deep.zip", tmp_path / "data")
    assert unpacked(tmp_path / "data") == {"a/b/c.txt": b"deep"}
