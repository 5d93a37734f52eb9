"""Files at plain addresses: fetched, resumed, kept, and refused."""

import hashlib
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from weights_processes import finish, read_only, run_python, start_python
from weights_server import web_server
from weights_terminal import Terminal

from zoo.errors import (
    AccessError,
    DownloadError,
    HandleError,
    IntegrityError,
    LockError,
    NotFoundError,
    OfflineError,
)
from zoo.weights.handle import Source
from zoo.weights.https import fetch_url
from zoo.weights.lockfile import LockedFile, Lockfile

CONTENT = os.urandom(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = 24 << 16  # bytes: whole pieces of 64 KB


class OneFile:
    """Answers as a web server with one file; `faults` are used up, one for each request."""

    def __init__(self):
        self.content = CONTENT
        self.version = {"ETag": '"v1"'}
        self.ranges = True
        self.faults = []

    def __call__(self, method, path, headers):
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", headers.get("Range", ""))
        if asked and self.ranges and headers.get("If-Range") in self.version.values():
            start = int(asked[1])
            if start >= len(self.content):
                return 416, {"Content-Range": f"bytes */{len(self.content)}"}, b""
        body, answer = self.content[start:], dict(self.version)
        if start:
            answer["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        fault = self.faults.pop(0) if self.faults else None
        if fault == "cut":
            answer |= {"Content-Length": str(len(body)), "Connection": "close"}
            body = body[: HALF - start]
        elif fault == "hang":
            answer |= {"Content-Length": str(len(body))}
            body = body[:HALF]
        elif fault:
            return fault
        return (206 if start else 200), answer, body


@pytest.fixture
def file():
    return OneFile()


@pytest.fixture
def server(file):
    with web_server(file) as running:
        yield running


@pytest.fixture
def source(tmp_path):
    return Source(cache_dir=tmp_path / "cache")


@pytest.fixture
def url(server):
    return f"{server.url}/weights/resnet.safetensors?download=1"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("zoo.weights.https.PAUSES", (0.01, 0.01))


def ranges(server):
    """The ranges that were asked for since the last time."""
    asked = [headers.get("Range") for _, _, headers in server.requests]
    server.requests.clear()
    return asked


def kept(source):
    return sorted(path.name for path in Path(source.cache_dir).rglob("*") if path.is_file())


def test_a_file_is_fetched_once(server, url, source):
    path = fetch_url(url, source)
    assert path.name == "resnet.safetensors"
    assert path.read_bytes() == CONTENT
    assert Path(source.cache_dir) in path.parents
    assert fetch_url(url, source) == path
    assert fetch_url(url, source, SHA256.upper()) == path
    assert fetch_url(url, replace(source, offline=True)) == path
    assert ranges(server) == [None]
    assert kept(source) == [".lock", "resnet.safetensors", "resnet.safetensors.json"]


def test_each_address_has_a_file_of_its_own(server, url, file, source):
    first = fetch_url(url, source)
    file.content = b"other"
    second = fetch_url(url + "&v=2", source)
    assert (first.read_bytes(), second.read_bytes()) == (CONTENT, b"other")


@pytest.mark.parametrize(
    ("path", "name"),
    [("/", "file"), ("/..", "file"), ("/a%2Fb%20c.bin", "b_c.bin"), ("/.hidden", "hidden")],
)
def test_names_are_plain(server, source, path, name):
    assert fetch_url(server.url + path, source).name == name


def test_no_credentials_are_sent(server, url, source, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    fetch_url(url, replace(source, token="secret"))
    assert "secret" not in str(server.requests)


def test_refresh_fetches_anew(server, url, file, source):
    path = fetch_url(url, source)
    file.content, file.version = b"new", {"ETag": '"v2"'}
    assert fetch_url(url, source).read_bytes() == CONTENT
    assert fetch_url(url, replace(source, refresh=True)) == path
    assert path.read_bytes() == b"new"
    assert fetch_url(url, source, hashlib.sha256(b"new").hexdigest()) == path


def test_a_failed_refresh_keeps_the_old_file(server, url, file, source):
    path = fetch_url(url, source)
    file.faults = [(404, {}, b"")]
    with pytest.raises(NotFoundError):
        fetch_url(url, replace(source, refresh=True))
    file.content = b"new"
    with pytest.raises(IntegrityError):
        fetch_url(url, replace(source, refresh=True), SHA256)
    assert path.read_bytes() == CONTENT


# Resuming


def test_a_connection_that_breaks_off_is_taken_up(server, url, file, source):
    file.faults = ["cut"]
    assert fetch_url(url, source, SHA256).read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={HALF}-"]


def test_a_connection_that_always_breaks_off_keeps_what_came(server, url, file, source):
    file.faults = ["cut"] * 3
    with pytest.raises(DownloadError, match=r"What has come is kept.*the next attempt goes on"):
        fetch_url(url, source)
    assert kept(source) == [
        ".lock",
        "resnet.safetensors.partial",
        "resnet.safetensors.partial.json",
    ]
    assert ranges(server) == [None] + [f"bytes={HALF}-"] * 2
    assert fetch_url(url, source).read_bytes() == CONTENT
    assert ranges(server) == [f"bytes={HALF}-"]
    assert kept(source) == [".lock", "resnet.safetensors", "resnet.safetensors.json"]


@pytest.mark.parametrize("version", [{"ETag": '"v2"'}, {"Last-Modified": "Mon, 2 Jan 2023"}, {}])
def test_a_file_that_changed_is_begun_anew(server, url, file, source, version):
    file.faults = ["cut"] * 3
    with pytest.raises(DownloadError):
        fetch_url(url, source)
    file.content, file.version = CONTENT[::-1], version
    assert fetch_url(url, source).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("version", [{"ETag": 'W/"weak"'}, {}])
def test_a_file_without_a_version_is_begun_anew(server, url, file, source, version):
    file.version, file.faults = version, ["cut"]
    assert fetch_url(url, source).read_bytes() == CONTENT
    assert ranges(server) == [None, None]


def test_a_file_with_a_date_is_resumed(server, url, file, source):
    file.version = {"Last-Modified": "Mon, 02 Jan 2023 00:00:00 GMT"}
    file.faults = ["cut"]
    assert fetch_url(url, source).read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={HALF}-"]


def test_a_server_without_ranges_sends_all_again(server, url, file, source):
    file.ranges, file.faults = False, ["cut"]
    assert fetch_url(url, source).read_bytes() == CONTENT


def test_a_server_that_sends_another_range(server, url, file, source):
    wrong = (206, {"ETag": '"v1"', "Content-Range": "bytes 5-9/10"}, b"wrong")
    file.faults = ["cut", wrong]
    assert fetch_url(url, source).read_bytes() == CONTENT


def test_a_partial_file_that_is_too_long(server, url, file, source):
    file.faults = ["cut"] * 3
    with pytest.raises(DownloadError):
        fetch_url(url, source)
    file.content = b"short"
    assert fetch_url(url, source).read_bytes() == b"short"


FETCH = """
from zoo.weights.handle import Source
from zoo.weights.https import fetch_url
def fetch():
    print(fetch_url(sys.argv[1], Source(cache_dir=sys.argv[2])))
"""


def test_a_killed_download_is_resumed(server, url, file, source):
    file.faults = ["hang"]
    process = start_python(FETCH + "fetch()", url, source.cache_dir)
    end = time.monotonic() + 20
    while not any(p.stat().st_size == HALF for p in Path(source.cache_dir).rglob("*.partial")):
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert "resnet.safetensors" not in kept(source)
    assert fetch_url(url, source).read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={HALF}-"]
    assert kept(source) == [".lock", "resnet.safetensors", "resnet.safetensors.json"]


def test_two_processes_fetch_the_same_file_once(server, url, source):
    fetches = [start_python(FETCH + "fetch()", url, source.cache_dir) for _ in range(2)]
    first, second = map(finish, fetches)
    assert (first.error, second.error) == ("", ""), first.message + second.message
    assert first.output == second.output
    assert Path(first.output.strip()).read_bytes() == CONTENT
    assert ranges(server) == [None]


# Refusals


@pytest.mark.parametrize("url", ["http://example.org/a", "ftp://127.0.0.1/a", "file:///etc/passwd"])
def test_only_https(source, url):
    with pytest.raises(HandleError, match="no https address"):
        fetch_url(url, source)


@pytest.mark.parametrize("target", ["http://example.org/a", "file:///etc/passwd"])
def test_a_redirect_cannot_leave_https(server, url, file, source, target):
    file.faults = [(302, {"Location": target}, b"")]
    with pytest.raises(HandleError, match="no https address"):
        fetch_url(url, source)


def test_redirects_are_followed(server, url, file, source):
    file.faults = [(302, {"Location": "/elsewhere"}, b""), (307, {"Location": "again"}, b"")]
    path = fetch_url(url, source)
    assert path.read_bytes() == CONTENT
    assert path.name == "resnet.safetensors"
    assert [path for _, path, _ in server.requests][1:] == ["/elsewhere", "/again"]


def test_redirects_without_end(server, url, file, source):
    file.faults = [(302, {"Location": "/again"}, b"")] * 50
    with pytest.raises(DownloadError, match="without end"):
        fetch_url(url, source)


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (401, AccessError, r"without a login \(401\)"),
        (403, AccessError, r"\(403\)"),
        (404, NotFoundError, r"No file at .*resnet\.safetensors.*\(404\)"),
        (410, NotFoundError, r"\(410\)"),
        (418, DownloadError, "status 418"),
        (429, DownloadError, "status 429, in the last of 3 attempts"),
        (500, DownloadError, "status 500, in the last of 3 attempts"),
    ],
)
def test_statuses(server, url, file, source, status, error, message):
    file.faults = [(status, {}, b"no")] * 3
    with pytest.raises(error, match=message):
        fetch_url(url, source)
    assert kept(source) == [".lock"]
    file.faults.clear()
    assert fetch_url(url, source).read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_when_it_says(server, url, file, source):
    file.faults = [(429, {"Retry-After": "1"}, b"")]
    start = time.monotonic()
    assert fetch_url(url, source).read_bytes() == CONTENT
    assert 1 <= time.monotonic() - start < 5


def test_a_server_that_asks_for_too_long_is_not_waited_for(server, url, file, source):
    file.faults = [(503, {"Retry-After": "3600"}, b"")]
    with pytest.raises(DownloadError, match="asks to wait 3600 s"):
        fetch_url(url, source)


def test_no_network(server, source):
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match=r"could not be fetched.*Check the network"):
        fetch_url(f"{server.url}/a", source)


def test_a_server_that_says_nothing(server, url, file, source, monkeypatch):
    monkeypatch.setattr("zoo.weights.https.FIRST_ANSWER", 0.2)
    monkeypatch.setattr(server, "answer", lambda *request: time.sleep(1) or file(*request))
    start = time.monotonic()
    with pytest.raises(DownloadError, match="no answer within"):
        fetch_url(url, source)
    assert time.monotonic() - start < 1


def test_offline(server, url, source, monkeypatch):
    with pytest.raises(
        OfflineError, match=rf"{re.escape(url)} is not in the cache .*offline=False"
    ):
        fetch_url(url, replace(source, offline=True))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OfflineError):
        fetch_url(url, source)
    assert server.requests == []


def test_another_hash_than_expected(server, url, file, source):
    with pytest.raises(IntegrityError, match=f"sha256 {SHA256}; expected {'0' * 64}.*removed"):
        fetch_url(url, source, "0" * 64)
    assert kept(source) == [".lock", "resnet.safetensors.partial.json"]
    path = fetch_url(url, source)
    with pytest.raises(IntegrityError, match="was not loaded"):
        fetch_url(url, source, "0" * 64)
    path.write_bytes(b"changed")
    with pytest.raises(IntegrityError, match="refresh=True"):
        fetch_url(url, source, SHA256)
    assert fetch_url(url, replace(source, refresh=True), SHA256).read_bytes() == CONTENT


def test_a_lockfile(server, url, source, tmp_path):
    lock = Lockfile(
        [
            LockedFile(
                repo=url, commit=None, file="resnet.safetensors", sha256=SHA256, size=3_000_000
            )
        ]
    )
    lock.write(tmp_path / "zoo.lock")
    locked = replace(source, lockfile=tmp_path / "zoo.lock")
    assert fetch_url(url, locked).read_bytes() == CONTENT
    with pytest.raises(LockError, match="does not list"):
        fetch_url(url + "&v=2", locked)


# The disk


def test_a_full_disk(server, url, source):
    done = run_python(FETCH + "fill_the_disk(100_000); fetch()", url, source.cache_dir)
    assert done.error == "DiskError"
    assert "resnet.safetensors" not in kept(source)
    assert fetch_url(url, source).read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written(server, url, source):
    path = fetch_url(url, source)
    with read_only(source.cache_dir):
        done = run_python(FETCH + "lose_rights(); fetch()", url, source.cache_dir)
        assert (done.error, done.output) == ("", f"{path}\n"), done.message
        done = run_python(FETCH + "lose_rights(); fetch()", url + "&v=2", source.cache_dir)
        assert done.error == "DiskError"


# The progress bar


@pytest.mark.parametrize(
    ("size", "variable", "shown"),
    [(5_000_000, "", True), (4_999_999, "", False), (5_000_000, "1", False)],
)
def test_large_files_show_their_progress(
    server, url, file, source, monkeypatch, size, variable, shown
):
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", variable)
    file.content = bytes(size)
    fetch_url(url, source)
    assert ("resnet.safetensors: 100%" in terminal.text) is shown
    assert ("5.00M/5.00M" in terminal.text) is shown


def test_progress_is_not_written_to_files(server, url, file, source, capsys):
    file.content = bytes(6_000_000)
    fetch_url(url, source)
    assert capsys.readouterr().err == ""
