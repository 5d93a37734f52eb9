"""The Hugging Face hub protocol, for models, as an application over a `Storage`."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from zoo.hub.access import Access, Signer, User
from zoo.hub.committing import Committing
from zoo.hub.errors import HubError
from zoo.hub.faults import FaultMiddleware, Faults
from zoo.hub.lfs import Lfs
from zoo.hub.managing import Managing
from zoo.hub.pulls import Pulls
from zoo.hub.reading import Reading
from zoo.hub.storage import Storage
from zoo.hub.web import Hub, Limits, failure, is_host
from zoo.hub.xet import Xet

_MAX_ADDRESS = 8000  # bytes of path and query


def create_app(
    storage: Storage,
    *,
    tokens: Mapping[str, User] | None = None,
    faults: Faults | None = None,
    limits: Limits | None = None,
    members_only: bool = False,
) -> ASGIApp:
    """An ASGI application that serves `storage`.

    Args:
        storage: the repos.
        tokens: the user that each access token stands for; every other token is refused.
        faults: what to do wrong, for tests.
        limits: what is too much.
        members_only: show nothing to those who have no token.
    """
    storage.open()
    hub = Hub(
        storage=storage,
        access=Access(tokens or {}, members_only=members_only),
        signer=Signer(storage.root),
        limits=limits or Limits(),
    )
    return Starlette(
        routes=[
            *Reading(hub).routes(),
            *Managing(hub).routes(),
            *Committing(hub).routes(),
            *Pulls(hub).routes(),
            *Lfs(hub).routes(),
            *Xet(hub).routes(),
        ],
        middleware=[
            Middleware(FaultMiddleware, faults=faults or Faults()),
            Middleware(_Address),
        ],
        exception_handlers={
            HTTPException: _http_error,
            HubError: _hub_error,
            ClientDisconnect: _nobody_there,
            Exception: _own_error,
        },
    )


class _Address:
    """Refuses addresses that are none; routes match the path before it is decoded.

    A branch `a/b` comes as `a%2Fb`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, query = scope["raw_path"], scope["query_string"]
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        answer: ASGIApp
        if len(path) + len(query) > _MAX_ADDRESS:
            answer = failure(414, f"The address is longer than {_MAX_ADDRESS} bytes.")
        elif not (path + query).isascii() or not all(map(is_host, hosts)):
            answer = failure(400, "The address, or the header Host, is none.")
        else:
            scope = {**scope, "path": path.decode("ascii")}
            answer = self.app
        await answer(scope, receive, send)


async def _hub_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HubError)
    commit = {"X-Repo-Commit": error.commit} if error.commit else None
    return failure(error.status, str(error), error.code, commit)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{error.detail}: {request.method} {request.scope['path']}"
    return failure(error.status_code, message, headers=error.headers)


async def _own_error(request: Request, error: Exception) -> Response:
    return failure(500, "The hub failed; its log says why. Nothing of this request was stored.")


async def _nobody_there(request: Request, error: Exception) -> Response:
    return failure(400, "The request broke off.")
