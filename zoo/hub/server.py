"""The hub on a port: in a thread for tests and the demo, or blocking for the command line."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple, Self

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from zoo.errors import NotFoundError
from zoo.hub.access import User
from zoo.hub.app import create_app
from zoo.hub.connections import protocol
from zoo.hub.faults import Faults
from zoo.hub.storage import Storage
from zoo.hub.web import Limits


class ReceivedRequest(NamedTuple):
    """A request as it came in: the decoded path without the query, headers by lower-case name."""

    method: str
    path: str
    headers: dict[str, str]


class HubServer:
    """Serves a storage on a free port of 127.0.0.1, from `with` to its end.

        with HubServer(storage) as hub:
            huggingface_hub.hf_hub_download("acme/digits", "config.json", endpoint=hub.url)

    Attributes:
        url: the base address, for `endpoint=`.
        requests: what has been asked so far, in order; a redirect followed is a second request.
        storage, faults: what is served, and what goes wrong. Both may change while it runs.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        tokens: Mapping[str, User] | None = None,
        faults: Faults | None = None,
        limits: Limits | None = None,
        members_only: bool = False,
    ):
        self.storage = storage
        self.faults = faults or Faults()
        self.requests: list[ReceivedRequest] = []
        self.url = ""
        self._limits = limits or Limits()
        self._app = create_app(
            storage,
            tokens=tokens,
            faults=self.faults,
            limits=self._limits,
            members_only=members_only,
        )

    def __enter__(self) -> Self:
        listener, self.url = _listen("127.0.0.1", 0)  # takes connections from here on
        self._server = uvicorn.Server(_config(self._record, self._limits, log=False))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="zoo-hub", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    async def _record(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        self.requests.append(ReceivedRequest(scope["method"], scope["path"], headers))
        await self._app(scope, receive, send)


def serve(
    storage: Storage,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    tokens: Mapping[str, User] | None = None,
    limits: Limits | None = None,
    members_only: bool = False,
    ready: Callable[[str], None] = print,
) -> None:
    """Serve a storage until interrupted.

    Args:
        port: 0 takes a free one.
        tokens, limits, members_only: as `create_app` has them.
        ready: called with the address as soon as connections are taken.

    Raises:
        NotFoundError: no such host here, or the port is in use.
    """
    limits = limits or Limits()
    app = create_app(storage, tokens=tokens, limits=limits, members_only=members_only)
    listener, url = _listen(host, port)
    ready(url)
    try:
        uvicorn.Server(_config(app, limits, log=True)).run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # which is how one ends it
    finally:
        storage.close()


def _listen(host: str, port: int) -> tuple[socket.socket, str]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise NotFoundError(f"Cannot listen on {host} port {port}: {error.strerror}.") from error
    name = f"[{host}]" if ":" in host else host
    return listener, f"http://{name}:{listener.getsockname()[1]}"


def _config(app: ASGIApp, limits: Limits, *, log: bool) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        interface="asgi3",
        http=protocol(limits.patience),
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=uvicorn.config.LOGGING_CONFIG if log else None,
        log_level="warning" if log else None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,  # second; what a stalled request gets at the end
    )
