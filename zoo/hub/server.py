"""The hub on a port: in a thread for tests and the demo, or blocking for the command line."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

import uvicorn
from starlette.types import Receive, Scope, Send

from zoo.hub.app import User, create_app
from zoo.hub.faults import Faults
from zoo.hub.storage import Storage


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
    ):
        self.storage = storage
        self.faults = faults or Faults()
        self.requests: list[ReceivedRequest] = []
        self.url = ""
        self._app = create_app(storage, tokens=tokens, faults=self.faults)

    def __enter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", 0))  # takes connections from here on
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            self._record,
            interface="asgi3",
            http="h11",
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,  # second; what a stalled request gets at the end
        )
        self._server = uvicorn.Server(config)
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
    root: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    tokens: Mapping[str, User] | None = None,
) -> None:
    """Serve the repos in the folder `root` until interrupted."""
    uvicorn.run(create_app(Storage(root), tokens=tokens), host=host, port=port)
