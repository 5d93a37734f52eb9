"""Loading from hubs, networks and disks that fail: clear errors, nothing lost or left half."""

import hashlib
import os
import shutil
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hub_fixtures import REPO, WEIGHTS
from weights_processes import finish, read_only, run_python, start_python
from weights_server import web_server

from zoo.errors import AccessError, DiskError, DownloadError, IntegrityError, NotFoundError
from zoo.hub import Fault
from zoo.weights import waiting
from zoo.weights.handle import Source
from zoo.weights.hub import open_repository

BIG = os.urandom(300_000)
SHA256 = hashlib.sha256(BIG).hexdigest()


@pytest.fixture
def source(hub, tmp_path):
    return Source(endpoint=hub.url, cache_dir=tmp_path / "cache")


@pytest.fixture
def big(hub):
    """A repo whose weights come in several pieces."""
    return hub.storage.commit(REPO, {"model.safetensors": BIG})


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("zoo.weights.client.PAUSES", (0.01, 0.01))


def weights(source):
    (path,) = open_repository(REPO, source).weights()
    return path


def left(source):
    """Files in the cache, but for notes, locks and links."""
    return [
        path.name
        for path in Path(source.cache_dir).rglob("blobs/*")
        if path.is_file() and not path.is_symlink()
    ]


# The network


def test_no_network(tmp_path):
    with socket.socket() as closed:  # bound, and nobody listens
        closed.bind(("127.0.0.1", 0))
        source = Source(
            endpoint=f"http://127.0.0.1:{closed.getsockname()[1]}", cache_dir=tmp_path / "cache"
        )
        start = time.monotonic()
        with pytest.raises(DownloadError, match=r"refused.*Check the network.*HF_ENDPOINT"):
            weights(source)
        assert time.monotonic() - start < 5


@pytest.mark.parametrize("cached", [False, True])
def test_a_network_that_swallows_everything(hub, digits, source, monkeypatch, cached):
    """Also where the commit is known, and only a file is missing: the client alone takes 30 s."""
    if cached:
        open_repository(REPO, source).file("config.json")
    monkeypatch.setattr("zoo.weights.client.FIRST_ANSWER", 0.5)
    hub.faults.add(Fault("*", stall=30))
    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"Check the network"):
        weights(source)
    assert time.monotonic() - start < 3


def test_the_time_until_an_answer_is_bounded():
    assert waiting.FIRST_ANSWER < 10


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("path", ["/api/models/*", "*/resolve/*"])
@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (401, AccessError, r"closed to no token, and none was sent, or does not exist \(401\)"),
        (403, AccessError, r"closed to no token.*\(403\)"),
        (404, NotFoundError, r"\(404\)"),
        (429, DownloadError, "limits the rate of requests"),
        (500, DownloadError, "status 500"),
        (503, DownloadError, "status 503"),
    ],
)
def test_statuses(hub, big, source, path, status, error, message):
    hub.faults.add(Fault(path, status=status))
    with pytest.raises(error, match=message) as caught:
        weights(source)
    assert type(caught.value) is error
    assert left(source) == []
    hub.faults.clear()
    assert weights(source).read_bytes() == BIG


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_hub_is_asked_again(hub, big, source, status):
    hub.faults.add(
        Fault("/api/models/*", status=status, times=2),
        Fault("*/resolve/*", status=status, times=2),
    )
    assert weights(source).read_bytes() == BIG


@pytest.mark.parametrize("path", ["/api/models/*", "*/resolve/*"])
def test_a_hub_is_left_alone_for_as_long_as_it_asks(hub, big, source, path):
    hub.faults.add(Fault(path, status=429, retry_after=1, times=1))
    start = time.monotonic()
    assert weights(source).read_bytes() == BIG
    assert 1 <= time.monotonic() - start < 5


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_asks_for_too_long_is_not_waited_for(hub, big, source, method, status):
    """Also in the middle of the client's own work, which would sleep for the hour."""
    hub.faults.add(Fault("*/resolve/*", status=status, method=method, retry_after=3600))
    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1 asks to wait 3600 s"):
        weights(source)
    assert time.monotonic() - start < 3
    assert left(source) == []


def test_a_web_page_in_the_place_of_a_hub(tmp_path):
    page = b"<html>Please log in to the network</html>"
    with web_server(lambda *request: (200, {"Content-Type": "text/html"}, page)) as server:
        source = Source(endpoint=server.url, cache_dir=tmp_path / "cache")
        with pytest.raises(DownloadError, match="could not be fetched"):
            weights(source)


# The connection


def test_a_connection_that_breaks_off_is_taken_up_again(hub, big, source):
    hub.faults.add(Fault("*.safetensors", cut_after=200_000, times=1))
    assert weights(source).read_bytes() == BIG


def test_a_connection_that_always_breaks_off(hub, big, source, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.faults.add(Fault("*.safetensors", cut_after=0))
    with pytest.raises(DownloadError, match=r"Nothing half-written was left behind"):
        weights(source)
    assert left(source) == []
    assert not any(p.name == "model.safetensors" for p in Path(source.cache_dir).rglob("*"))
    hub.faults.clear()
    assert weights(source).read_bytes() == BIG


def test_a_body_of_another_length(hub, big, source):
    hub.faults.add(Fault("*.safetensors", content_length=1000, times=1))
    assert weights(source).read_bytes() == BIG  # fetched again
    hub.storage.commit(REPO, {"model.safetensors": WEIGHTS})
    hub.faults.add(Fault("*.safetensors", content_length=50))
    with pytest.raises(DownloadError, match="should be of size"):
        weights(replace(source, refresh=True))
    assert left(source) == [SHA256]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_byte_that_changed_on_the_way_is_found(hub, source, name):
    """The client stores it under the right name: it checks no hash."""
    hub.storage.commit(REPO, {name: BIG})
    hub.faults.add(Fault(f"*/{name}", flip_byte=1234, times=1))
    with pytest.raises(IntegrityError, match=rf"{name}.*removed from the cache\. Load it again"):
        open_repository(REPO, source).file(name)
    assert left(source) == []
    assert open_repository(REPO, source).file(name).read_bytes() == BIG


# The disk

LOAD = """
from zoo.weights.handle import Source
from zoo.weights.hub import open_repository
def load(revision=None):
    source = Source(endpoint=sys.argv[1], cache_dir=sys.argv[2])
    return open_repository("acme/digits", source, revision).weights()[0]
"""


def test_a_full_disk(hub, big, source):
    done = run_python(LOAD + "fill_the_disk(100_000); load()", hub.url, source.cache_dir)
    assert done.error == "DiskError"
    assert "No room to write" in done.message
    assert "zoo cache prune" in done.message
    assert left(source) == []
    assert weights(source).read_bytes() == BIG


def test_a_file_larger_than_the_disk_is_not_begun(tmp_path):
    size = 10**18
    headers = {"ETag": f'"{"a" * 64}"', "X-Repo-Commit": "c" * 40, "X-Linked-Size": str(size)}
    listing = (
        b'{"id": "acme/digits", "sha": "%s", "siblings": [{"rfilename": "model.safetensors"}]}'
    )

    def answer(method, path, request):
        return (200, {}, listing % (b"c" * 40)) if "/api/" in path else (200, headers, b"")

    with web_server(answer) as server:
        source = Source(endpoint=server.url, cache_dir=tmp_path / "cache")
        with pytest.raises(
            DiskError, match=r"takes 1,000,000,000,000\.0 MB.*Nothing was downloaded"
        ):
            weights(source)
        assert [method for method, _, _ in server.requests] == ["GET", "HEAD"]


def test_a_cache_that_cannot_be_written(hub, big, source):
    """What is in it is loaded; what is not is an error."""
    path = weights(source)
    hub.requests.clear()
    with read_only(source.cache_dir):
        done = run_python(LOAD + "lose_rights(); print(load())", hub.url, source.cache_dir)
        assert (done.error, done.output) == ("", f"{path}\n"), done.message
        assert hub.requests == []
        hub.storage.commit(REPO, {"model.safetensors": WEIGHTS}, branch="new")
        done = run_python(LOAD + "lose_rights(); load('new')", hub.url, source.cache_dir)
    assert done.error == "DiskError"
    assert "cannot be written" in done.message
    assert "HF_HOME" in done.message


def test_a_cache_of_another_program_that_cannot_be_written(hub, big, source):
    """There is no ledger, and there will be none: the file is hashed at every load."""
    path = weights(source)
    shutil.rmtree(path.parents[2] / ".zoo")
    with read_only(source.cache_dir):
        for _ in range(2):
            done = run_python(LOAD + "lose_rights(); print(load())", hub.url, source.cache_dir)
            assert (done.error, done.output) == ("", f"{path}\n"), done.message


# Several processes


def test_two_processes_load_the_same_model_at_once(hub, big, source):
    hub.faults.add(Fault("*.safetensors", method="GET", stall=0.5))
    loads = [start_python(LOAD + "print(load())", hub.url, source.cache_dir) for _ in range(2)]
    first, second = map(finish, loads)
    assert (first.error, second.error) == ("", ""), first.message + second.message
    assert first.output == second.output
    assert Path(first.output.strip()).read_bytes() == BIG
    assert left(source) == [SHA256]
    hub.requests.clear()
    assert weights(source) == Path(first.output.strip())
    assert hub.requests == []


def test_a_killed_download_is_followed_by_a_new_one(hub, source):
    content = os.urandom(20_000_000)
    hub.storage.commit(REPO, {"model.safetensors": content})
    hub.faults.add(Fault("*.safetensors", method="GET", cut_after=15_000_000))
    for _ in range(2):
        process = start_python(LOAD + "load()", hub.url, source.cache_dir)
        until(lambda: partial_sizes(source) and max(partial_sizes(source)) > 1_000_000)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert len(partial_sizes(source)) == 1  # that of the first was swept
        assert not any(p.name == "model.safetensors" for p in Path(source.cache_dir).rglob("*"))
    hub.faults.clear()
    assert weights(source).read_bytes() == content
    assert left(source) == [hashlib.sha256(content).hexdigest()]


def test_a_download_in_progress_is_not_swept(hub, source):
    hub.storage.commit(REPO, {"model.safetensors": BIG, "config.json": b"{}"})
    hub.faults.add(Fault("*.safetensors", method="GET", stall=2, times=1))
    process = start_python(LOAD + "print(load())", hub.url, source.cache_dir)
    until(lambda: partial_sizes(source))
    open_repository(REPO, source).file("config.json")
    assert len(partial_sizes(source)) == 1
    done = finish(process)
    assert done.error == "", done.message
    assert Path(done.output.strip()).read_bytes() == BIG


def partial_sizes(source):
    paths = list(Path(source.cache_dir).rglob("*.incomplete"))
    return [path.stat().st_size for path in paths if path.exists()]


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
