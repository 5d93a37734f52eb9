"""Connections that a client leaves half open: on a hub, and by a clock that the test sets."""

import itertools
import socket
import time

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from zoo.hub import HubServer, Storage
from zoo.hub.connections import protocol
from zoo.hub.web import Limits

HEAD = b"POST /x HTTP/1.1\r\nHost: hub\r\nContent-Length: 1000000\r\n\r\n"
GET = b"GET /api/agent-harnesses HTTP/1.1\r\nHost: hub\r\n\r\n"


@pytest.fixture
def hub(tmp_path):
    with HubServer(Storage(tmp_path / "hub"), limits=Limits(patience=0.3)) as server:
        yield server


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"", b""),
        (b"GET / HT", b""),
        (b"GET / HTTP/1.1\r\n", b"A: b\r\n"),
        (HEAD.replace(b"/x", b"/api/validate-yaml"), b""),
        (HEAD.replace(b"/x", b"/api/validate-yaml"), b"x"),
        (GET + b"GET ", b""),
    ],
)
def test_half_open_connections_end(hub, start, more):
    host, port = hub.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=0.05) as client:
        client.sendall(start)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if not client.recv(1000):
                    return
            except TimeoutError:
                pass
            except ConnectionError:
                return
            client.sendall(more)
    pytest.fail("The hub waits without end.")


class Clock:
    """As much of an event loop as a connection needs, at a time that the test sets."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def time(self):
        return self.now

    def call_later(self, delay, call):
        handle = Handle(self.now + delay, call)
        self.calls.append(handle)
        return handle

    def create_task(self, coroutine, **_):
        coroutine.close()  # what the application does is none of this
        return Handle(0, None)

    def go_on(self, seconds):
        end = self.now + seconds
        while due := [c for c in self.calls if not c.cancelled and c.when <= end]:
            first = min(due, key=lambda handle: handle.when)
            self.calls.remove(first)
            self.now = first.when
            first.call()
        self.now = end


class Handle:
    def __init__(self, when, call):
        self.when, self.call, self.cancelled = when, call, False

    def cancel(self):
        self.cancelled = True

    def add_done_callback(self, _):
        pass


class Transport:
    """A client's end, which takes nothing of what is `unsent` by itself."""

    def __init__(self):
        self.unsent, self.aborted = 0, False

    def get_extra_info(self, _):
        return None

    def get_write_buffer_size(self):
        return self.unsent

    def abort(self):
        self.aborted = True

    def pause_reading(self):
        pass

    resume_reading = pause_reading


@pytest.fixture
def connection():
    made = protocol(60)(Config(lambda: None, lifespan="off"), ServerState(), {}, Clock())
    made.connection_made(Transport())
    return made


def test_client_that_says_nothing(connection):
    connection.loop.go_on(55)
    assert not connection.transport.aborted
    connection.loop.go_on(30)
    assert connection.transport.aborted


def test_body_that_comes_slowly(connection):
    """For longer than any one step may take."""
    connection.data_received(HEAD)
    for _ in range(20):
        connection.data_received(b"x" * 3000)  # of which 60 kB wait for the application
        connection.loop.go_on(14)
    assert not connection.transport.aborted


def test_body_that_drips(connection):
    connection.data_received(HEAD)
    for _ in itertools.takewhile(lambda _: not connection.transport.aborted, range(100)):
        connection.data_received(b"x")
        connection.loop.go_on(5)
    assert 60 <= connection.loop.now < 120


def test_hub_that_takes_its_time(connection):
    """The request is whole, or its body waits for the application: it is the hub's turn."""
    connection.data_received(GET)
    connection.loop.go_on(1000)
    assert not connection.transport.aborted


def test_body_that_the_hub_does_not_take(connection):
    connection.data_received(HEAD + b"x" * 100_000)
    connection.loop.go_on(1000)
    assert not connection.transport.aborted


def test_answer_that_nobody_takes(connection):
    connection.data_received(GET)
    connection.transport.unsent = 100_000
    connection.loop.go_on(55)
    assert not connection.transport.aborted
    connection.loop.go_on(30)
    assert connection.transport.aborted


def test_answer_that_is_taken_slowly(connection):
    connection.data_received(GET)
    for unsent in range(100_000, 0, -5000):
        connection.transport.unsent = unsent
        connection.loop.go_on(40)
    for _ in range(20):  # as much was written again as had gone
        connection.transport.unsent = 70_000
        connection.pause_writing()
        connection.resume_writing()
        connection.loop.go_on(40)
    assert not connection.transport.aborted
