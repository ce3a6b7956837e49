"""Downloads that resume after a broken transfer, are checked by their hash, and appear only when complete."""

import json
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import requests
import urllib3

from samebox.core import files
from samebox.core.errors import SameboxError
from samebox.core.progress import Task, progress
from samebox.core.text import one_line

_FIRST_WAIT = 1.0  # seconds before the second attempt, doubled before each further one
_MAX_WAIT = 30.0
_BLOCK = 1 << 16  # bytes read at once; a broken transfer loses at most as many
_TEMPORARY_STATUSES = (408, 425, 429)  # the statuses below 500 that are worth another attempt
_MAX_BYTES = 1 << 35  # of a file whose server announces no size; checkpoints are a tenth of it at most
_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


# Raised for an address that cannot be parsed, such as that of a redirection
_BROKEN_ADDRESS = (requests.RequestException, urllib3.exceptions.HTTPError, ValueError, LookupError)


class _TemporaryError(Exception):
    """A transfer failed in a way that is worth another attempt."""


def fetch(
    source: str | Path,
    target: str | Path,
    sha256: str | None = None,
    timeout: float = 30.0,
    retries: int = 4,
    size: int | None = None,
) -> Path:
    """Copy or download `source`, a local path or an http(s) address, to `target`; returns `target`.

    `sha256` is the expected hash, or its first 8 digits or more; a target with that hash is not downloaded
    again. `timeout` in seconds limits connecting and each wait for data. A broken transfer continues where it
    stopped, up to `retries` times in this call and again in later calls: `<target>.part` holds the bytes
    received so far, and `<target>.part.json` states their source. A download ends at the size that the server
    announces; `size` is the expected one. Raises SameboxError if the source cannot be read or has another
    hash or size; `target` is unchanged then.
    """
    target = Path(target)
    digits = sha256.lower() if sha256 is not None else ""
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{8,64}", digits):
        raise SameboxError(f"sha256 {sha256!r}: not 8 to 64 hexadecimal digits; give the hash or its start")
    try:
        if digits and target.is_file() and files.sha256(target).startswith(digits):
            return target
        if re.match(r"https?://", str(source)):
            _Download(str(source), target, timeout, size).run(digits, retries)
        else:
            _copy(source, target, digits)
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise SameboxError(f"{target}: cannot be written ({reason}); choose another path") from None
    return target


def _copy(source: str | Path, target: Path, digits: str) -> None:
    source = files.existing(source, "give a local path or an http(s) address")
    if source.is_dir():
        raise SameboxError(f"{source}: a directory; give the path of the checkpoint file")
    with files.atomic_write(target) as temporary:
        shutil.copyfile(source, temporary)
        _check(temporary, source, digits)


def _check(path: Path, source: str | Path, digits: str) -> None:
    actual = files.sha256(path) if digits else ""
    if not actual.startswith(digits):
        raise SameboxError(
            f"{source}: expected SHA-256 {digits}, found {actual}; correct the address or the hash"
        )


@dataclass(frozen=True)
class _Download:
    """The download of one address to one file."""

    url: str
    target: Path
    timeout: float
    expected_size: int | None

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def note(self) -> Path:
        """States the address of the part, the version there, and the size of the whole file."""
        return self.target.with_name(f"{self.target.name}.part.json")

    def run(self, digits: str, retries: int) -> None:
        """Download, check the hash, and move the complete file to the target."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        with progress(self.target.name, unit="bytes") as task:
            self.receive_with_retries(retries, task)
        try:
            _check(self.part, self.url, digits)
        except SameboxError:
            self.discard()
            raise
        os.replace(self.part, self.target)
        self.discard()

    def discard(self) -> None:
        # The part first: a note without a part is harmless, a part with the note of another file is not.
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def receive_with_retries(self, retries: int, task: Task) -> None:
        """Receive the file; continue after a temporary error, at most `retries` times."""
        for attempt in range(retries + 1):
            try:
                return self.receive(task)
            except _TemporaryError as error:
                reason = one_line(error)
            if attempt < retries:
                time.sleep(min(_FIRST_WAIT * 2**attempt, _MAX_WAIT))
        raise SameboxError(
            f"{self.url}: {reason}, at attempt {retries + 1}; try again later, the transfer is then resumed"
        )

    def receive(self, task: Task) -> None:
        """Receive the rest of the part. Raises _TemporaryError if another attempt may succeed."""
        start, size, version = self.received()
        if start and start == size:
            return
        headers = {"Accept-Encoding": "identity"}  # sizes and hashes are those of the file itself
        if start:
            headers |= {"Range": f"bytes={start}-", "If-Range": version}
        try:
            with requests.get(self.url, headers=headers, stream=True, timeout=self.timeout) as response:
                self.check_status(response)
                if response.status_code == 206:
                    self.check_continues(response, start, size, version)
                else:
                    start, size = 0, self.begin(response)
                task.update(start, size)
                self.append(response, _MAX_BYTES if size is None else size, task)
        except _BROKEN as error:
            raise _TemporaryError(f"the transfer broke ({one_line(error)})") from None
        except _BROKEN_ADDRESS as error:
            raise SameboxError(f"{self.url}: {one_line(error)}; check the address") from None
        if size is not None and self.part.stat().st_size != size:
            raise _TemporaryError(f"received {self.part.stat().st_size} bytes instead of {size}")

    def append(self, response: requests.Response, size: int, task: Task) -> None:
        """Append the response to the part, up to `size` bytes. Raises SameboxError if there are more."""
        with self.part.open("ab") as file:
            for block in response.iter_content(_BLOCK):
                task.advance(file.write(block))
                if file.tell() > size:
                    self.refuse(f"the server sends more than {size} bytes")

    def refuse(self, reason: str) -> NoReturn:
        """Delete the part and raise SameboxError."""
        self.discard()
        raise SameboxError(f"{self.url}: {reason}; check the address")

    def received(self) -> tuple[int, int | None, str]:
        """How many bytes the part has (0 if it cannot be used), of how many, and their version."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            start = self.part.stat().st_size
            url, size, version = note["url"], note["size"], str(note["version"])
            usable = url == self.url and (size is None or start <= size) and self.fits(size)
        except (OSError, ValueError, LookupError, TypeError):
            return 0, None, ""
        return (start, size, version) if usable else (0, None, "")

    def fits(self, size: int | None) -> bool:
        """Whether an announced size is the expected one, if both are known."""
        return None in (size, self.expected_size) or size == self.expected_size

    def check_status(self, response: requests.Response) -> None:
        status = f"the server responds {response.status_code} {response.reason}"
        if response.status_code == 416:
            self.discard()
        if response.status_code >= 500 or response.status_code in (*_TEMPORARY_STATUSES, 416):
            raise _TemporaryError(status)
        if response.status_code not in (200, 206):
            raise SameboxError(f"{self.url}: {one_line(status)}; check the address")
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.strip().lower() not in ("", "identity"):  # its size unpacked is unknown
            self.refuse(f"the server sends it compressed ({one_line(encoding)}), which was not requested")

    def check_continues(
        self, response: requests.Response, start: int, size: int | None, version: str
    ) -> None:
        """Raise _TemporaryError unless a partial response continues the part, in the same version."""
        content_range = response.headers.get("Content-Range", "")
        total = "" if size is None else f"/{size}"
        continues = start and content_range.startswith(f"bytes {start}-") and content_range.endswith(total)
        if not continues or _version(response) != version:
            self.discard()
            raise _TemporaryError("the server responds with another part of the file")

    def begin(self, response: requests.Response) -> int | None:
        """Start the part again and write its note; returns the announced size in bytes, if any."""
        length = response.headers.get("Content-Length", "")
        size = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
        if not self.fits(size):
            self.refuse(f"the server announces {size} bytes instead of {self.expected_size}")
        size = self.expected_size if size is None else size
        self.discard()
        self.part.touch()
        if version := _version(response):
            files.write_json(self.note, {"url": self.url, "size": size, "version": version})
        return size


def _version(response: requests.Response) -> str:
    """The version for `If-Range`: a strong ETag, else the date, else an empty text."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
