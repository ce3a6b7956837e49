import gzip
import hashlib
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from samebox.core import fetch as module
from samebox.core.errors import SameboxError
from samebox.core.fetch import fetch
from samebox.core.progress import Task

BODY = bytes(range(256)) * 2048  # 512 KiB, several blocks
OTHER = BODY[::-1]
HASH = hashlib.sha256(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `body` at every path, with the next of `faults` for each request.

    A fault is "cut" or "stall" (half of the data, then the end of the connection or silence), a status, or
    None. `requested` are the Range headers that were received.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.tag, self.faults, self.requested = BODY, '"one"', [], []
        self.ranges, self.conditional, self.dated = True, True, False
        self.encoding, self.announced, self.location, self.total = None, True, None, None
        self.release = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/net.pth"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        server.requested.append(self.headers["Range"])
        fault = server.faults.pop(0) if server.faults else None
        if isinstance(fault, int):
            self.send_error(fault)
            return
        if server.location is not None:
            self.send_response(302)
            self.send_header("Location", server.location)
            self.end_headers()
            return
        start = self.start_of_range()
        self.send_response(206 if start else 200)
        if start:
            total = server.total or len(server.body)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if server.announced:
            self.send_header("Content-Length", str(len(server.body) - start))
        if server.encoding:
            self.send_header("Content-Encoding", server.encoding)
        if server.tag:
            self.send_header("Last-Modified" if server.dated else "ETag", server.tag)
        self.end_headers()
        data = server.body[start:]
        self.wfile.write(data[: len(data) // 2] if fault else data)
        if fault == "stall":
            server.release.wait(10)

    def start_of_range(self):
        """The first byte to send: 0 without a range, or if `If-Range` states another version."""
        requested = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        same = self.headers["If-Range"] == self.server.tag or not self.server.conditional
        return int(requested[1]) if requested and same and self.server.ranges else 0


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "_FIRST_WAIT", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "weights" / "net.pth"


def download(server, target, **options):
    return fetch(server.url, target, **{"timeout": 5, **options})


def error_of(server, target, **options):
    with pytest.raises(SameboxError) as error:
        download(server, target, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def names_beside(target):
    """The names of all files in the folder of the target."""
    return sorted(path.name for path in target.parent.iterdir())


def test_a_complete_file(server, target, monkeypatch):
    shown = []
    monkeypatch.setattr(Task, "close", lambda task, close=Task.close: shown.append(task) or close(task))
    assert download(server, target, sha256=HASH[:8].upper()) == target
    assert target.read_bytes() == BODY
    assert names_beside(target) == ["net.pth"]
    assert [(task.name, task.completed, task.total) for task in shown] == [("net.pth", len(BODY), len(BODY))]


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_a_broken_transfer_continues_where_it_stopped(server, target, fault):
    server.faults = [fault, fault]
    download(server, target, sha256=HASH, timeout=0.3)
    assert target.read_bytes() == BODY
    assert server.requested[0] is None
    first, second = (int(header.removeprefix("bytes=").removesuffix("-")) for header in server.requested[1:])
    assert 0 < first <= len(BODY) // 2 < second < len(BODY)


def test_a_later_call_continues_a_broken_transfer(server, target):
    server.faults = ["cut"]
    assert "the transfer is then resumed" in error_of(server, target, retries=0)
    assert not target.exists()
    assert names_beside(target) == ["net.pth.part", "net.pth.part.json"]
    download(server, target, sha256=HASH)
    assert server.requested[1].startswith("bytes=")
    assert names_beside(target) == ["net.pth"]


def test_a_complete_part_is_not_requested_again(server, target):
    target.parent.mkdir()
    (target.parent / "net.pth.part").write_bytes(BODY)
    note = {"url": server.url, "size": len(BODY), "version": '"one"'}
    (target.parent / "net.pth.part.json").write_text(json.dumps(note))
    download(server, target, sha256=HASH)
    assert server.requested == []
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("note", ["", "{}", "[]", '{"url": "http://else/where", "size": 9, "version": "x"}'])
def test_a_part_of_another_source_is_not_used(server, target, note):
    target.parent.mkdir()
    (target.parent / "net.pth.part").write_bytes(b"foreign")
    (target.parent / "net.pth.part.json").write_text(note)
    download(server, target, sha256=HASH)
    assert server.requested == [None]


@pytest.mark.parametrize("status", [500, 503, 429, 416])
def test_a_temporary_status_is_retried(server, target, status):
    server.faults = [status, status]
    download(server, target, sha256=HASH)
    assert len(server.requested) == 3


@pytest.mark.parametrize("status", [404, 403])
def test_a_permanent_status_is_not_retried(server, target, status):
    server.faults = [status]
    assert f"{server.url}: the server responds {status}" in error_of(server, target)
    assert len(server.requested) == 1
    assert names_beside(target) == []


def test_the_number_of_retries_is_limited(server, target):
    server.faults = [500] * 9
    assert "500 Internal Server Error, at attempt 3" in error_of(server, target, retries=2)
    assert len(server.requested) == 3


def test_the_wait_is_doubled_before_each_attempt(server, target, monkeypatch):
    waits = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    server.faults = [500] * 3
    download(server, target)
    assert waits == [0.01, 0.02, 0.04]


def test_a_server_that_does_not_respond(server, target):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        server.url = f"http://127.0.0.1:{unused.getsockname()[1]}/net.pth"
        assert "the transfer broke" in error_of(server, target, retries=1)


def test_a_server_that_ignores_ranges(server, target):
    server.faults, server.ranges = ["cut"], False
    download(server, target, sha256=HASH)
    assert server.requested[1].startswith("bytes=")
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("conditional", [True, False], ids=["If-Range", "no If-Range"])
def test_a_file_that_changes_between_attempts(server, target, conditional):
    server.faults, server.conditional = ["cut"], conditional
    error_of(server, target, retries=0)
    server.body, server.tag = OTHER, '"two"'
    download(server, target)
    assert target.read_bytes() == OTHER
    assert names_beside(target) == ["net.pth"]


def test_the_date_is_the_version_without_an_etag(server, target):
    server.faults, server.tag, server.dated = ["cut"], "Fri, 21 Nov 2025 05:47:00 GMT", True
    download(server, target, sha256=HASH)
    assert server.requested[1].startswith("bytes=")


@pytest.mark.parametrize("tag", [None, 'W/"weak"'])
def test_a_file_without_a_version_starts_again(server, target, tag):
    server.faults, server.tag = ["cut"], tag
    download(server, target, sha256=HASH)
    assert server.requested == [None, None]


@pytest.mark.parametrize("encoding", ["gzip", "br", "x\x1b[31m"])
def test_a_compressed_response_is_refused_and_leaves_nothing(server, target, encoding):
    server.body, server.encoding = gzip.compress(bytes(1 << 24)), encoding
    assert "the server sends it compressed" in error_of(server, target)
    assert len(server.requested) == 1
    assert names_beside(target) == []


def test_more_than_the_announced_bytes_are_refused_and_leave_nothing(server, target):
    server.faults = ["cut"]
    error_of(server, target, retries=0)
    server.body, server.announced, server.total = BODY * 2, False, len(BODY)
    message = error_of(server, target)  # the part continues
    assert message == f"{server.url}: the server sends more than {len(BODY)} bytes; check the address"
    assert names_beside(target) == []


def test_without_an_announced_size_there_is_a_limit(server, target, monkeypatch):
    server.announced = False
    assert download(server, target).read_bytes() == BODY
    monkeypatch.setattr(module, "_MAX_BYTES", 1000)
    assert "the server sends more than 1000 bytes" in error_of(server, target)
    assert "the server sends more than 5000 bytes" in error_of(server, target, size=5000)
    assert names_beside(target) == ["net.pth"]


def test_another_size_than_expected_is_refused_before_the_transfer(server, target):
    assert f"announces {len(BODY)} bytes instead of 9;" in error_of(server, target, size=9)
    assert names_beside(target) == []
    assert download(server, target, size=len(BODY)).read_bytes() == BODY


@pytest.mark.parametrize(
    "location",
    [
        "http://[::1",
        "http://",
        "http://a b/",
        "ftp://host/",
        "http://host:99999/",
        "http://\u00ff..x/",
        "//",
        "x:",
    ],
)
def test_a_redirection_to_a_broken_address_is_one_line(server, target, location):
    server.location = location
    assert error_of(server, target, retries=0).startswith(f"{server.url}: ")
    assert names_beside(target) == []


def test_another_hash_is_an_error(server, target):
    server.body = OTHER
    actual = hashlib.sha256(OTHER).hexdigest()
    assert f"expected SHA-256 {HASH[:8]}, found {actual};" in error_of(server, target, sha256=HASH[:8])
    assert names_beside(target) == []


def test_another_hash_leaves_an_older_target_unchanged(server, target):
    target.parent.mkdir()
    target.write_bytes(b"older")
    server.body = OTHER
    error_of(server, target, sha256=HASH)
    assert target.read_bytes() == b"older"


def test_a_target_with_the_expected_hash_is_not_downloaded_again(server, target):
    target.parent.mkdir()
    target.write_bytes(BODY)
    download(server, target, sha256=HASH[:10])
    assert server.requested == []
    download(server, target)
    assert server.requested == [None]


def test_a_local_file_is_copied(target, tmp_path):
    source = tmp_path / "source.pth"
    source.write_bytes(BODY)
    assert fetch(source, target, sha256=HASH) == target
    source.write_bytes(b"changed")
    assert target.read_bytes() == BODY
    with pytest.raises(SameboxError, match=f": expected SHA-256 {HASH}, found "):
        fetch(source, tmp_path / "new.pth", sha256=HASH)
    assert not (tmp_path / "new.pth").exists()


@pytest.mark.parametrize("source", ["absent.pth", "ftp://host/net.pth"])
def test_a_source_that_does_not_exist(tmp_path, source):
    with pytest.raises(SameboxError, match="no such file; give a local path or an http"):
        fetch(source, tmp_path / "net.pth")


@pytest.mark.parametrize("digits", ["", "1234567", "g" * 8, "0" * 65])
def test_an_invalid_hash(tmp_path, digits):
    with pytest.raises(SameboxError, match="not 8 to 64 hexadecimal digits"):
        fetch("http://127.0.0.1/net.pth", tmp_path / "net.pth", sha256=digits)


def test_a_target_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be written" in error_of(server, tmp_path / "file" / "net.pth")
    (tmp_path / "folder").mkdir()
    assert "cannot be written" in error_of(server, tmp_path / "folder")
