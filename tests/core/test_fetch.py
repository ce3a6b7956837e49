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

BODY = bytes(range(256)) * 2048  # 512 KiB, several blocks
OTHER = BODY[::-1]
HASH = hashlib.sha256(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `body` at every path, badly: each request takes the next of `faults` off the list.

    A fault is "cut" or "stall" (half of what is due, then the end of the connection or silence), a status
    number, or None. `asked` are the Range headers that came.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.tag, self.faults, self.asked = BODY, '"one"', [], []
        self.ranges, self.conditional, self.dated = True, True, False
        self.release = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/net.pth"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        server.asked.append(self.headers["Range"])
        fault = server.faults.pop(0) if server.faults else None
        if isinstance(fault, int):
            self.send_error(fault)
            return
        start = self.start_of_range()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.body) - 1}/{len(server.body)}")
        self.send_header("Content-Length", str(len(server.body) - start))
        if server.tag:
            self.send_header("Last-Modified" if server.dated else "ETag", server.tag)
        self.end_headers()
        due = server.body[start:]
        self.wfile.write(due[: len(due) // 2] if fault else due)
        if fault == "stall":
            server.release.wait(10)

    def start_of_range(self):
        """Where to begin: 0 without a range, or if the file is another than `If-Range` says."""
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        same = self.headers["If-Range"] == self.server.tag or not self.server.conditional
        return int(wanted[1]) if wanted and same and self.server.ranges else 0


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


def got(server, target, **options):
    return fetch(server.url, target, **{"progress": False, "timeout": 5, **options})


def error_of(server, target, **options):
    with pytest.raises(SameboxError) as error:
        got(server, target, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def left(target):
    """The names of all files beside the target."""
    return sorted(path.name for path in target.parent.iterdir())


def test_a_whole_file(server, target, capsys):
    assert got(server, target, sha256=HASH[:8].upper(), progress=True) == target
    assert target.read_bytes() == BODY
    assert left(target) == ["net.pth"]
    assert "net.pth" in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_a_broken_transfer_goes_on_where_it_stopped(server, target, fault):
    server.faults = [fault, fault]
    got(server, target, sha256=HASH, timeout=0.3)
    assert target.read_bytes() == BODY
    assert server.asked[0] is None
    first, second = (int(asked.removeprefix("bytes=").removesuffix("-")) for asked in server.asked[1:])
    assert 0 < first <= len(BODY) // 2 < second < len(BODY)


def test_a_later_call_goes_on_too(server, target):
    server.faults = ["cut"]
    assert "which resumes the transfer" in error_of(server, target, retries=0)
    assert not target.exists()
    assert left(target) == ["net.pth.part", "net.pth.part.json"]
    got(server, target, sha256=HASH)
    assert server.asked[1].startswith("bytes=")
    assert left(target) == ["net.pth"]


def test_a_part_complete_before_its_renaming_is_not_asked_for_again(server, target):
    target.parent.mkdir()
    (target.parent / "net.pth.part").write_bytes(BODY)
    note = {"url": server.url, "size": len(BODY), "version": '"one"'}
    (target.parent / "net.pth.part.json").write_text(json.dumps(note))
    got(server, target, sha256=HASH)
    assert server.asked == []
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("note", ["", "{}", "[]", '{"url": "http://else/where", "size": 9, "version": "x"}'])
def test_a_part_of_unknown_origin_is_not_used(server, target, note):
    target.parent.mkdir()
    (target.parent / "net.pth.part").write_bytes(b"foreign")
    (target.parent / "net.pth.part.json").write_text(note)
    got(server, target, sha256=HASH)
    assert server.asked == [None]


@pytest.mark.parametrize("status", [500, 503, 429, 416])
def test_a_passing_refusal_is_retried(server, target, status):
    server.faults = [status, status]
    got(server, target, sha256=HASH)
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [404, 403])
def test_a_lasting_refusal_is_not(server, target, status):
    server.faults = [status]
    assert f"{server.url}: the server answers {status}" in error_of(server, target)
    assert len(server.asked) == 1
    assert left(target) == []


def test_retries_end(server, target):
    server.faults = [500] * 9
    assert "500 Internal Server Error, at attempt 3" in error_of(server, target, retries=2)
    assert len(server.asked) == 3


def test_waits_double(server, target, monkeypatch):
    waits = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    server.faults = [500] * 3
    got(server, target)
    assert waits == [0.01, 0.02, 0.04]


def test_nobody_listening(server, target):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        server.url = f"http://127.0.0.1:{unused.getsockname()[1]}/net.pth"
        assert "the transfer broke" in error_of(server, target, retries=1)


def test_a_server_that_ignores_ranges(server, target):
    server.faults, server.ranges = ["cut"], False
    got(server, target, sha256=HASH)
    assert server.asked[1].startswith("bytes=")
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("conditional", [True, False], ids=["If-Range", "no If-Range"])
def test_a_file_that_changes_between_attempts(server, target, conditional):
    server.faults, server.conditional = ["cut"], conditional
    error_of(server, target, retries=0)
    server.body, server.tag = OTHER, '"two"'
    got(server, target)
    assert target.read_bytes() == OTHER
    assert left(target) == ["net.pth"]


def test_a_date_serves_where_there_is_no_tag(server, target):
    server.faults, server.tag, server.dated = ["cut"], "Fri, 21 Nov 2025 05:47:00 GMT", True
    got(server, target, sha256=HASH)
    assert server.asked[1].startswith("bytes=")


@pytest.mark.parametrize("tag", [None, 'W/"weak"'])
def test_a_file_without_a_version_starts_anew(server, target, tag):
    server.faults, server.tag = ["cut"], tag
    got(server, target, sha256=HASH)
    assert server.asked == [None, None]


def test_wrong_bytes(server, target):
    server.body = OTHER
    found = hashlib.sha256(OTHER).hexdigest()
    assert f"expected SHA-256 {HASH[:8]}, found {found}" in error_of(server, target, sha256=HASH[:8])
    assert left(target) == []


def test_wrong_bytes_leave_an_older_target_alone(server, target):
    target.parent.mkdir()
    target.write_bytes(b"older")
    server.body = OTHER
    error_of(server, target, sha256=HASH)
    assert target.read_bytes() == b"older"


def test_a_target_with_the_right_hash_is_kept(server, target):
    target.parent.mkdir()
    target.write_bytes(BODY)
    got(server, target, sha256=HASH[:10])
    assert server.asked == []
    got(server, target)
    assert server.asked == [None]


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
def test_a_source_that_is_none(tmp_path, source):
    with pytest.raises(SameboxError, match="no such file; give a local path or an http"):
        fetch(source, tmp_path / "net.pth")


@pytest.mark.parametrize("digits", ["", "1234567", "g" * 8, "0" * 65])
def test_a_hash_that_is_none(tmp_path, digits):
    with pytest.raises(SameboxError, match="not 8 to 64 hexadecimal digits"):
        fetch("http://127.0.0.1/net.pth", tmp_path / "net.pth", sha256=digits)


def test_a_target_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be written" in error_of(server, tmp_path / "file" / "net.pth")
    (tmp_path / "folder").mkdir()
    assert "cannot be written" in error_of(server, tmp_path / "folder")
