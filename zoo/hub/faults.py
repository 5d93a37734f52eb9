"""Faults to inject between the hub and its client, so that tests see what networks do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

import anyio
from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong on the requests whose path matches.

    Attributes:
        path: shell pattern for the decoded path; `*` matches slashes too.
        times: how many requests it spoils; None is all of them.
        method: the only request method it spoils; None is any.
        status: answer with this status instead, and with no `X-Error-Code`.
        retry_after: the `Retry-After` of that answer, in seconds.
        stall: wait that many seconds before answering.
        cut_after: close the connection after that many bytes of the body.
        flip_byte: invert the byte at this offset of the body.
        content_length: declare this length; a longer body is truncated to it, a shorter one ends
            in a closed connection.

    Exactly one of `status`, `stall`, `cut_after`, `flip_byte` and `content_length` is given. The
    last three spoil the bodies of successful GETs alone: a HEAD, a redirect or an error passes
    untouched and does not count.
    """

    path: str
    times: int | None = None
    method: str | None = None
    status: int | None = None
    retry_after: int | None = None
    stall: float | None = None
    cut_after: int | None = None
    flip_byte: int | None = None
    content_length: int | None = None

    def __post_init__(self) -> None:
        kinds = (self.status, self.stall, self.cut_after, self.flip_byte, self.content_length)
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError(f"A fault does exactly one thing; got {self}.")

    @property
    def stage(self) -> Literal["request", "body"]:
        return "request" if self.status is not None or self.stall is not None else "body"

    def spoils(self, stage: str, method: str, path: str) -> bool:
        return (
            self.stage == stage and self.method in (None, method) and fnmatchcase(path, self.path)
        )


class Faults:
    """The faults that are still to come. A request meets at most one of each stage, first come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: list[Fault] = []

    def add(self, *faults: Fault) -> None:
        with self._lock:
            self._pending.extend(faults)

    def clear(self) -> None:
        with self._lock:
            self._pending.clear()

    def take(self, stage: Literal["request", "body"], method: str, path: str) -> Fault | None:
        """The fault that spoils this stage of a request, if any; it is counted as used."""
        with self._lock:
            for index, fault in enumerate(self._pending):
                if fault.spoils(stage, method, path):
                    if fault.times is not None:
                        left = [replace(fault, times=fault.times - 1)] if fault.times > 1 else []
                        self._pending[index : index + 1] = left
                    return fault
        return None


class FaultMiddleware:
    """An ASGI application that injects `faults` into the answers of another."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self.app = app
        self.faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        method, path = scope["method"], scope["path"]
        fault = self.faults.take("request", method, path)
        if fault and fault.stall is not None:
            await anyio.sleep(fault.stall)
        elif fault and fault.status is not None:
            wait = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            response = JSONResponse({"error": "Injected fault."}, fault.status, wait)
            return await response(scope, receive, send)
        if method == "GET":
            send = _SpoiledBody(send, lambda: self.faults.take("body", method, path))
        return await self.app(scope, receive, send)


class _SpoiledBody:
    """The `send` of one request, with a body that may go wrong.

    A body that ends before its declared length is left incomplete. The server then closes the
    connection, which is what a cut looks like to the client.
    """

    def __init__(self, send: Send, take: Callable[[], Fault | None]) -> None:
        self.send = send
        self.take = take
        self.fault: Fault | None = None
        self.position = 0  # in the true body
        self.declared = 0  # bytes that the client was told to expect
        self.end = 0  # where sending stops: there, or at the cut

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] in (200, 206):
            self.fault = self.take()
            if self.fault:
                self._declare(message, self.fault)
        if message["type"] == "http.response.body" and self.fault:
            await self._send_body(message.get("body", b""), self.fault)
        else:
            await self.send(message)

    def _declare(self, message: Message, fault: Fault) -> None:
        headers = MutableHeaders(raw=list(message["headers"]))
        true = int(headers["content-length"])
        self.declared = true if fault.content_length is None else fault.content_length
        self.end = self.declared if fault.cut_after is None else min(true, fault.cut_after)
        headers["content-length"] = str(self.declared)
        message["headers"] = headers.raw

    async def _send_body(self, body: bytes, fault: Fault) -> None:
        piece = bytearray(body[: max(0, self.end - self.position)])
        if fault.flip_byte is not None and 0 <= fault.flip_byte - self.position < len(piece):
            piece[fault.flip_byte - self.position] ^= 0xFF
        self.position += len(body)
        if piece:
            complete = self.position >= self.end == self.declared
            await self.send(
                {"type": "http.response.body", "body": bytes(piece), "more_body": not complete}
            )
