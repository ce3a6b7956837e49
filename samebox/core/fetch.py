"""Checkpoints fetched whole: resumed after a broken transfer, checked, and put in place at once."""

import json
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from samebox.core import files
from samebox.core.errors import SameboxError, one_line

_FIRST_WAIT = 1.0  # seconds before the second attempt, doubled for each further one
_LONGEST_WAIT = 30.0
_BLOCK = 1 << 16  # bytes read at once; what a broken transfer loses at most
_PASSING_STATUSES = (408, 425, 429)  # the ones below 500 that another attempt may mend
_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


class _PassingError(Exception):
    """A transfer that broke in a way that another attempt may mend."""


def fetch(
    source: str | Path,
    target: str | Path,
    sha256: str | None = None,
    timeout: float = 30.0,
    retries: int = 4,
    progress: bool = True,
) -> Path:
    """Bring `source`, a local path or an http(s) address, to `target`, and return that.

    `sha256` is the expected hash or its head of 8 digits or more; a target that already has it stays as it
    is. `timeout` is in seconds, for connecting and for each silence of the server. A transfer that breaks
    is taken up where it stopped, up to `retries` times in this call and again by later calls: the bytes so
    far lie in `<target>.part`, what they belong to in `<target>.part.json`. Raises SameboxError if the
    source cannot be had or its bytes are not the expected ones; `target` is then as it was before.
    """
    target = Path(target)
    digits = sha256.lower() if sha256 is not None else ""
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{8,64}", digits):
        raise SameboxError(f"sha256 {sha256!r}: not 8 to 64 hexadecimal digits; give the hash or its head")
    try:
        if digits and target.is_file() and files.sha256(target).startswith(digits):
            return target
        if re.match(r"https?://", str(source)):
            _Download(str(source), target, timeout).run(digits, retries, progress)
        else:
            _copy(source, target, digits)
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise SameboxError(f"{target}: cannot be written ({reason}); choose another place") from None
    return target


def _copy(source: str | Path, target: Path, digits: str) -> None:
    source = files.existing(source, "give a local path or an http(s) address")
    if source.is_dir():
        raise SameboxError(f"{source}: a directory; name the checkpoint file in it")
    with files.atomic_write(target) as temporary:
        shutil.copyfile(source, temporary)
        _check(temporary, source, digits)


def _check(path: Path, source: str | Path, digits: str) -> None:
    found = files.sha256(path) if digits else ""
    if not found.startswith(digits):
        raise SameboxError(
            f"{source}: expected SHA-256 {digits}, found {found}; correct the address or the hash"
        )


@dataclass(frozen=True)
class _Download:
    """One address on its way to one file."""

    url: str
    target: Path
    timeout: float

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def note(self) -> Path:
        """Says of the part which address it is of, in which version, and how long the whole is."""
        return self.target.with_name(f"{self.target.name}.part.json")

    def run(self, digits: str, retries: int, progress: bool) -> None:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=Console(stderr=True), disable=not progress) as bars:
            self.receive_persistently(retries, bars, bars.add_task(self.target.name, total=None))
        try:
            _check(self.part, self.url, digits)
        except SameboxError:
            self.forget()
            raise
        os.replace(self.part, self.target)
        self.forget()

    def forget(self) -> None:
        # The part goes first: a note without its part is harmless, a part under another's note is not.
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def receive_persistently(self, retries: int, bars: Progress, task: TaskID) -> None:
        for attempt in range(retries + 1):
            try:
                return self.receive(bars, task)
            except _PassingError as error:
                reason = one_line(error)
            if attempt < retries:
                time.sleep(min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT))
        raise SameboxError(
            f"{self.url}: {reason}, at attempt {retries + 1}; try again later, which resumes the transfer"
        )

    def receive(self, bars: Progress, task: TaskID) -> None:
        """Bring the part to its full length. Raises _PassingError where another attempt may succeed."""
        start, size, version = self.kept()
        if start and start == size:
            return
        headers = {"Accept-Encoding": "identity"}  # lengths and hashes are those of the file itself
        if start:
            headers |= {"Range": f"bytes={start}-", "If-Range": version}
        try:
            with requests.get(self.url, headers=headers, stream=True, timeout=self.timeout) as response:
                self.check_status(response)
                if response.status_code == 206:
                    self.check_continues(response, start, size, version)
                else:
                    start, size = 0, self.begin(response)
                bars.update(task, completed=start, total=size)
                with self.part.open("ab") as file:
                    for block in response.iter_content(_BLOCK):
                        bars.advance(task, file.write(block))
        except _BROKEN as error:
            raise _PassingError(f"the transfer broke ({one_line(error)})") from None
        except requests.RequestException as error:
            raise SameboxError(f"{self.url}: {one_line(error)}; check the address") from None
        if size is not None and self.part.stat().st_size != size:
            raise _PassingError(f"{self.part.stat().st_size} bytes came instead of {size}")

    def kept(self) -> tuple[int, int | None, str]:
        """How many bytes lie there to go on from (0 for none), of how many, and of which version."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            start = self.part.stat().st_size
            url, size, version = note["url"], note["size"], note["version"]
        except (OSError, ValueError, LookupError, TypeError):
            return 0, None, ""
        usable = url == self.url and (size is None or start <= size)
        return (start, size, version) if usable else (0, None, "")

    def check_status(self, response: requests.Response) -> None:
        status = f"the server answers {response.status_code} {response.reason}"
        if response.status_code == 416:
            self.forget()
        if response.status_code >= 500 or response.status_code in (*_PASSING_STATUSES, 416):
            raise _PassingError(status)
        if response.status_code not in (200, 206):
            raise SameboxError(f"{self.url}: {one_line(status)}; check the address")

    def check_continues(
        self, response: requests.Response, start: int, size: int | None, version: str
    ) -> None:
        """A partial answer must be the rest of the version whose beginning is here."""
        place = response.headers.get("Content-Range", "")
        whole = "" if size is None else f"/{size}"
        continues = start and place.startswith(f"bytes {start}-") and place.endswith(whole)
        if not continues or _version(response) != version:
            self.forget()
            raise _PassingError("the server answers with another part of the file")

    def begin(self, response: requests.Response) -> int | None:
        """Start the part anew and note what it will be of; return the announced length in bytes."""
        length = response.headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() else None
        self.forget()
        self.part.touch()
        if version := _version(response):
            files.write_json(self.note, {"url": self.url, "size": size, "version": version})
        return size


def _version(response: requests.Response) -> str:
    """What `If-Range` can ask for: a strong ETag, else the date; empty if the server names neither."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
