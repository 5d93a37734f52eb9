"""Uploads by Xet, which is how the stock client sends files that are not small.

The client asks for an address and a token, sends xorbs there, then shards that say of which chunks
the files are. What comes of it is a content as any other, for a commit to name by its sha256.
Downloads do not go this way.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zoo.hub.access import LIFETIME
from zoo.hub.blobs import full_disk_is_an_error
from zoo.hub.errors import BadRequestError, FullDiskError, LimitError, UnauthorizedError
from zoo.hub.web import Hub, Own, base_url, failure, in_thread, param, pieces, route
from zoo.hub.xorbs import MAX_XORB, ShardFile, read_shard

MAX_SHARD = 256 << 20  # bytes; the client stops at 64 MiB
_HASH = re.compile("[0-9a-f]{64}")


class Xet:
    """The routes of uploads by Xet."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.storage = hub.storage

    def routes(self) -> list[Route]:
        token = "/api/models/{org}/{name}/xet-write-token/{revision}"
        return [
            route("GET", token, self.hub.repo_to_write, self.token),
            route("GET", "/xet/{space}/v1/chunks/{prefix}/{chunk}", self.granted, self.chunk),
            route("POST", "/xet/{space}/v1/xorbs/{prefix}/{xorb}", self.granted, self.xorb),
            route("POST", "/xet/{space}/v1/shards", self.granted, self.shard),
            route("POST", "/xet/{space}/shards", self.granted, self.shard),
        ]

    def token(self, request: Request, own: Own) -> Response:
        repo, _ = own
        space = self.storage.space(repo.id)
        # A signed address serves as the token: it says for what it is good, and how long.
        token = self.hub.signer.sign("XET", f"/xet/{space}", repo=repo.id)
        url, expires = f"{base_url(request)}/xet/{space}", int(time.time()) + LIFETIME
        return JSONResponse(
            {"casUrl": url, "accessToken": token, "exp": expires},
            headers={
                "X-Xet-Cas-Url": url,
                "X-Xet-Access-Token": token,
                "X-Xet-Token-Expiration": str(expires),
            },
        )

    def granted(self, request: Request) -> tuple[str, str]:
        """The space of the address, and the repo that the token is for."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        space = param(request, "space")
        if scheme.lower() != "bearer" or not token.startswith(f"/xet/{space}?"):
            raise UnauthorizedError("This address needs the token that came with it.")
        _, query = self.hub.signer.check_address("XET", token)
        return space, query["repo"]

    def chunk(self, request: Request, _: tuple[str, str]) -> Response:
        """Whether the hub has a chunk of somebody else's: it does not tell."""
        return failure(404, "No such chunk.")

    async def xorb(self, request: Request, granted: tuple[str, str]) -> Response:
        space, name = granted[0], param(request, "xorb")
        if not _HASH.fullmatch(name):
            raise BadRequestError(f"{name[:100]!r} is no hash of a xorb.")
        with _full_disk_is_final():
            xorb = await in_thread(self.storage.assembly(space).receive, name)
            try:
                async for piece in pieces(request, MAX_XORB, "The xorb"):
                    await in_thread(xorb.write, piece)
                await in_thread(xorb.keep)
            finally:
                xorb.close()
        return JSONResponse({"was_inserted": True})

    async def shard(self, request: Request, granted: tuple[str, str]) -> Response:
        with _full_disk_is_final(), tempfile.TemporaryFile(dir=self.storage.root) as shard:
            async for piece in pieces(request, MAX_SHARD, "The shard"):
                await in_thread(shard.write, piece)
            shard.seek(0)
            await in_thread(self._assemble, *granted, read_shard(shard))
        return JSONResponse({"result": 1})

    def _assemble(self, space: str, repo_id: str, files: Iterable[ShardFile]) -> None:
        assembly = self.storage.assembly(space)
        for file in files:
            if file.size > self.hub.limits.file:
                raise LimitError(
                    f"A file of {file.size} bytes; this hub takes up to {self.hub.limits.file}."
                )
            # The client sends a shard again if the answer was lost, and equal files under one hash.
            if not self.storage.content(repo_id, file.sha256, lambda repo: repo.id == repo_id):
                assembly.assemble(file)
            self.storage.received(repo_id, file.sha256)


@contextmanager
def _full_disk_is_final() -> Iterator[None]:
    """Says that the disk is full in a way that the client does not try again for minutes."""
    try:
        with full_disk_is_an_error():
            yield
    except FullDiskError as error:
        raise LimitError(str(error)) from error
