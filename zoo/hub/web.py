"""What the routes share: the hub that they serve, and how they read requests and answer."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import unquote, urlencode, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zoo.hub.access import (
    Access,
    Signer,
    User,
    check_may_read,
    check_may_write,
    check_writer,
    may_see,
)
from zoo.hub.errors import BadRequestError, LimitError, MissingRepoError
from zoo.hub.objects import Repo
from zoo.hub.storage import Storage

PIECE = 1 << 20  # bytes that are hashed and written at once
_POSITIVE = re.compile(r"[1-9][0-9]{0,8}")
_HOST = re.compile(r"[A-Za-z0-9._~:\[\]-]+")
_NUMBER = re.compile(r"[0-9]{1,20}")
_UNPRINTABLE = re.compile(r"[^ -~]+")
_LONGEST_MESSAGE = 2000  # characters of an error
MAX_OBJECTS = 1000  # that one request is about; the client asks for at most 256

JsonDict = dict[str, Any]
T = TypeVar("T")
Own = tuple[Repo, User]  # a repo, and the user who may change it


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a hub takes, at the most. Sizes are in bytes.

    Attributes:
        file: one file.
        inline_file: a file that comes inside a commit, and not as an LFS object.
        commit: the request that makes a commit.
        files: the files that one commit changes.
        json: any other request.
        patience: seconds that a client has for the next step of a request.
    """

    file: int = 1 << 40
    inline_file: int = 10_000_000
    commit: int = 1_000_000_000
    files: int = 25_000
    json: int = 10_000_000
    patience: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Hub:
    """One hub, as its routes see it: what it has, and the checks that stand before each route."""

    storage: Storage
    access: Access
    signer: Signer
    limits: Limits

    def anybody(self, request: Request) -> None:
        """For what tells nothing of the hub."""

    def user(self, request: Request) -> User | None:
        """Who asks; None is somebody without a token. Raises `UnauthorizedError`."""
        return self.access.user(request.headers.get("authorization"))

    def writer(self, request: Request) -> User:
        """Who asks, with a token that may write."""
        return check_writer(self.user(request))

    def repo(self, request: Request) -> Repo:
        """The repo of the path. A private one is not there at all for whom it is not."""
        user = self.user(request)
        repo = self.storage.repo(f"{param(request, 'org')}/{param(request, 'name')}")
        if not may_see(user, repo):
            raise MissingRepoError(repo.id)
        return repo

    def repo_to_read(self, request: Request) -> Repo:
        """The repo of the path, whose files may be had."""
        repo = self.repo(request)
        check_may_read(self.user(request), repo)
        return repo

    def repo_to_write(self, request: Request) -> Own:
        """The repo of the path, and who is about to change it."""
        repo = self.repo(request)
        return repo, check_may_write(self.user(request), repo.owner)


def route(
    method: str, path: str, check: Callable[[Request], Any], endpoint: Callable[..., Any]
) -> Route:
    """A route.

    Args:
        check: raises for whoever may not make the request, before any of its body is read.
        endpoint: takes the request and what `check` gave. A plain function runs in a worker
            thread, as `check` does, for it reads the disk.
    """

    async def answer(request: Request) -> Response:
        allowed = await in_thread(check, request)
        if inspect.iscoroutinefunction(endpoint):
            return await endpoint(request, allowed)
        return await in_thread(endpoint, request, allowed)

    return Route(path, answer, methods=[method], name=check.__name__)


# Requests


def param(request: Request, name: str) -> str:
    """A part of the path, decoded."""
    try:
        return unquote(request.path_params[name], errors="strict")
    except UnicodeDecodeError:
        raise BadRequestError("The address is not UTF-8.") from None


def flag(value: str | None) -> bool:
    return value is not None and value.lower() in ("true", "1")


def is_host(text: str) -> bool:
    """Whether a Host header is a host, and perhaps a port."""
    try:
        parts = urlsplit(f"//{text}")
        return bool(_HOST.fullmatch(text) and parts.hostname and parts.port != 0)
    except ValueError:
        return False


def base_url(request: Request) -> str:
    """The address under which the client reached this hub."""
    return str(request.base_url).rstrip("/")


async def pieces(request: Request, limit: int, what: str) -> AsyncIterator[bytes]:
    """The body, in pieces of about `PIECE` bytes. Raises `LimitError` beyond `limit` bytes."""
    declared = request.headers.get("content-length", "0")
    received, waiting = int(declared) if _NUMBER.fullmatch(declared) else 0, bytearray()
    if received <= limit:
        received = 0
        async for piece in request.stream():
            received += len(piece)
            if received > limit:
                break
            waiting += piece
            if len(waiting) >= PIECE:
                yield bytes(waiting)
                waiting.clear()
    if received > limit:
        raise LimitError(f"{what} is larger than the {limit} bytes that this hub takes.")
    if waiting:
        yield bytes(waiting)


async def read_body(request: Request, limit: int) -> bytes:
    return b"".join([piece async for piece in pieces(request, limit, "The request")])


async def read_json(request: Request, hub: Hub) -> Fields:
    """The JSON object in the body."""
    body = await read_body(request, hub.limits.json)
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise BadRequestError("The body is no JSON.") from None
    return Fields(value)


class Fields:
    """A JSON object from outside, whose values are what they should be or a `BadRequestError`."""

    def __init__(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise BadRequestError(f"Expected a JSON object; got {type(value).__name__}.")
        self._values = value

    def get(self, name: str, kind: type[T], default: T | None = None) -> T:
        """The value of `name`, or `default` where it has none. Raises `BadRequestError`."""
        value = self._values.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            found = type(value).__name__
            raise BadRequestError(f"{name!r} must be {kind.__name__}; got {found}.")
        if isinstance(value, str) and not _is_unicode(value):
            raise BadRequestError(f"{name!r} has half a character (a lone surrogate).")
        return value

    def maybe(self, name: str, kind: type[T]) -> T | None:
        """The value of `name`, or None where it has none. Raises `BadRequestError`."""
        return None if self._values.get(name) is None else self.get(name, kind)

    def size(self, name: str) -> int:
        """A number of bytes."""
        value = self.get(name, int)
        if value < 0:
            raise BadRequestError(f"{name!r} must not be negative; got {value}.")
        return value

    def sha256(self, name: str) -> str:
        """64 hex digits."""
        value = self.get(name, str)
        if not re.fullmatch("[0-9a-f]{64}", value):
            raise BadRequestError(f"{name!r} must be a sha256; got {value[:100]!r}.")
        return value

    def objects(self, name: str, most: int = MAX_OBJECTS) -> list[Fields]:
        """A list of JSON objects. Raises `LimitError` where there are too many."""
        values = self.get(name, list)
        if len(values) > most:
            raise LimitError(f"{len(values)} {name}; this hub takes up to {most} at once.")
        return [Fields(value) for value in values]


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


async def in_thread(call: Callable[..., T], *args: Any, **options: Any) -> T:
    """Call something that reads or writes the disk."""
    return await run_in_threadpool(call, *args, **options)


# Answers


def page_of(request: Request, entries: Sequence[T], size: int) -> tuple[list[T], int | None]:
    """The entries that are asked for, at most `size`, and where the next page starts."""
    limit = request.query_params.get("limit", str(size))
    start = request.query_params.get("cursor", "0")
    if not _POSITIVE.fullmatch(limit):
        raise BadRequestError(f"limit={limit!r} is no positive integer.")
    if start != "0" and not _POSITIVE.fullmatch(start):
        raise BadRequestError(f"cursor={start!r} did not come from this hub.")
    end = int(start) + min(int(limit), size)
    return list(entries[int(start) : end]), end if end < len(entries) else None


def linked(request: Request, page: list[JsonDict], path: str, cursor: object) -> Response:
    """A page of a list, and the address of the next where `cursor` is not None."""
    if cursor is None:
        return JSONResponse(page)
    query = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
    url = f"{base_url(request)}{path}?{urlencode([*query, ('cursor', cursor)])}"
    return JSONResponse(page, headers={"Link": f'<{url}>; rel="next"'})


def failure(
    status: int,
    message: str,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
    **body: object,
) -> Response:
    """An error as the client reads it: from the headers, which a HEAD has too, and the body."""
    message = message[:_LONGEST_MESSAGE].encode("utf-8", "backslashreplace").decode()
    line = _UNPRINTABLE.sub(" ", message.encode("ascii", "backslashreplace").decode())
    code = code or HTTPStatus(status).phrase.title().replace(" ", "")
    return JSONResponse(
        {"error": message, **body},
        status,
        {"X-Error-Code": code, "X-Error-Message": line, **(headers or {})},
    )
