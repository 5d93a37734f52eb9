"""Git LFS: large files, sent to signed addresses that expire, in one piece or in parts.

The client asks for the addresses of the contents that it is about to commit, sends each content,
and has it verified. Nothing it sends is of use before its sha256 and size are the announced ones.
Whether a content is here is told to those who may read it, or have sent it, and to nobody else: all
others send all of it.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zoo.hub.access import User, may_read
from zoo.hub.blobs import CHUNK, full_disk_is_an_error
from zoo.hub.errors import BadRequestError, ContentError
from zoo.hub.objects import Repo
from zoo.hub.views import JsonDict
from zoo.hub.web import Fields, Hub, Own, base_url, in_thread, param, pieces, read_json, route

PART = 64 << 20  # bytes; what is larger comes in parts of this size, or of larger ones
MAX_PARTS = 10_000  # that one answer gives the addresses of
_MEDIA_TYPE = "application/vnd.git-lfs+json"


@dataclass(frozen=True, kw_only=True)
class Announced:
    """What an address is signed for.

    Attributes:
        repo: that the content is for.
        oid, size: the content's sha256, and its size in bytes.
        step: the size of its parts.
        parts: the file that they are put together in.
    """

    repo: Repo
    oid: str
    size: int
    step: int
    parts: Path


class Lfs:
    """The routes of large files."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.storage = hub.storage

    def routes(self) -> list[Route]:
        batch = "/{org}/{name}.git/info/lfs/objects/batch"
        upload = "/api/lfs/{org}/{name}/{oid}"
        return [
            route("POST", batch, self.hub.repo_to_write, self.batch),
            route("PUT", upload, self.signed, self.upload),
            route("PUT", upload + "/parts/{part}", self.signed, self.upload_part),
            route("POST", upload + "/complete", self.signed, self.complete),
            route("POST", upload + "/verify", self.signed, self.verify),
        ]

    # Addresses

    async def batch(self, request: Request, own: Own) -> Response:
        body = await read_json(request, self.hub)
        return await in_thread(self._batch, request, *own, body)

    def _batch(self, request: Request, repo: Repo, user: User, body: Fields) -> Response:
        if body.get("operation", str) != "upload":
            raise BadRequestError("This hub serves LFS for uploads only; download by /resolve/.")
        transfers = body.get("transfers", list, ["basic"])
        objects, transfer, all_wanted = [], "basic", body.objects("objects")
        for wanted in all_wanted:
            oid, size = wanted.sha256("oid"), wanted.size("size")
            line: JsonDict = {"oid": oid, "size": size}
            blob = self.storage.content(repo.id, oid, lambda other: may_read(user, other))
            if blob:
                self.storage.spare(repo.id, oid)  # so that no gc takes it before the commit
            elif size > self.hub.limits.file:
                limit = f"This hub takes files of up to {self.hub.limits.file} bytes."
                line["error"] = {"code": 413, "message": limit}
            else:
                step = size or 1  # bytes of one request
                if "multipart" in transfers and size > PART:
                    transfer = "multipart"
                    step = max(PART, -(-size // max(1, MAX_PARTS // len(all_wanted))))
                line |= {"authenticated": True, "actions": self._actions(request, repo, line, step)}
            objects.append(line)
        return JSONResponse({"transfer": transfer, "objects": objects}, media_type=_MEDIA_TYPE)

    def _actions(self, request: Request, repo: Repo, line: JsonDict, step: int) -> JsonDict:
        oid, size = line["oid"], line["size"]

        def signed(method: str, suffix: str, **query: object) -> str:
            path = f"/api/lfs/{repo.id}/{oid}{suffix}"
            return base_url(request) + self.hub.signer.sign(method, path, size=size, **query)

        verify = {"href": signed("POST", "/verify")}
        if step >= size:
            return {"upload": {"href": signed("PUT", "")}, "verify": verify}
        parts = {"upload": uuid.uuid4().hex, "step": step}
        header = {
            f"{n:05}": signed("PUT", f"/parts/{n}", **parts) for n in range(1, -(-size // step) + 1)
        }
        href = signed("POST", "/complete", **parts)
        upload = {"href": href, "header": {"chunk_size": str(step), **header}}
        return {"upload": upload, "verify": verify}

    def signed(self, request: Request) -> Announced:
        """What the address was signed for. Raises `ForbiddenError`."""
        query = request.query_params
        self.hub.signer.check(request.method, request.scope["path"], query)
        repo = self.storage.repo(f"{param(request, 'org')}/{param(request, 'name')}")
        return Announced(
            repo=repo,
            oid=param(request, "oid"),
            size=int(query["size"]),
            step=int(query.get("step", "1")),
            parts=self.storage.blobs.incoming / f"{query.get('upload')}.parts",
        )

    # Contents

    async def upload(self, request: Request, wanted: Announced) -> Response:
        with self.storage.blobs.receive() as content:
            async for piece in pieces(request, wanted.size, "The content"):
                await in_thread(content.write, piece)
            content.check(wanted.oid, wanted.size)
            await in_thread(self.storage.blobs.keep, content)
        await in_thread(self.storage.received, wanted.repo.id, wanted.oid)
        return Response()

    async def upload_part(self, request: Request, wanted: Announced) -> Response:
        """Write a part at its place in a file that the parts share; again, if it comes again."""
        start = (int(param(request, "part")) - 1) * wanted.step
        length, sha1, end = min(wanted.step, wanted.size - start), hashlib.sha1(), start
        descriptor = await in_thread(_open_parts, wanted.parts)
        try:
            async for piece in pieces(request, length, "The part"):
                sha1.update(piece)
                end += await in_thread(_write_at, descriptor, piece, end)
        finally:
            os.close(descriptor)
        if end - start != length:
            raise ContentError(f"The part has {end - start} bytes instead of {length}.")
        return Response(headers={"ETag": f'"{sha1.hexdigest()}"'})

    async def complete(self, request: Request, wanted: Announced) -> Response:
        body = await read_json(request, self.hub)
        return await in_thread(self._complete, wanted, body)

    def _complete(self, wanted: Announced, body: Fields) -> Response:
        expected, count = (wanted.oid, wanted.size), -(-wanted.size // wanted.step)
        try:
            found = _sha256(wanted.parts), wanted.parts.stat().st_size
        except FileNotFoundError:
            # The answer to the first completion may have been lost on its way.
            self._check_came_in(wanted)
            return JSONResponse({"success": True})
        if found != expected or len(body.objects("parts", MAX_PARTS)) != count:
            wanted.parts.unlink(missing_ok=True)
            raise ContentError(
                f"The parts are {found[1]} bytes with sha256 {found[0]}; expected {wanted.size} "
                f"bytes with sha256 {wanted.oid}. They were thrown away: send the file again."
            )
        self.storage.blobs.adopt(wanted.parts, wanted.oid)
        self.storage.received(wanted.repo.id, wanted.oid)
        return JSONResponse({"success": True})

    async def verify(self, request: Request, wanted: Announced) -> Response:
        body = await read_json(request, self.hub)
        return await in_thread(self._verify, wanted, body)

    def _verify(self, wanted: Announced, body: Fields) -> Response:
        if (body.sha256("oid"), body.size("size")) != (wanted.oid, wanted.size):
            raise BadRequestError("This address verifies another content.")
        self._check_came_in(wanted)
        return JSONResponse({"oid": wanted.oid, "size": wanted.size})

    def _check_came_in(self, wanted: Announced) -> None:
        """Raises `ContentError` where it did not come for this repo, whether it is here or not."""
        if not self.storage.came_in(wanted.repo.id, wanted.oid, wanted.size):
            raise ContentError(
                f"The content with sha256 {wanted.oid} has not come in: send it again."
            )


def _open_parts(file: Path) -> int:
    with full_disk_is_an_error():
        file.parent.mkdir(parents=True, exist_ok=True)
        return os.open(file, os.O_RDWR | os.O_CREAT, 0o644)


def _write_at(descriptor: int, piece: bytes, offset: int) -> int:
    with full_disk_is_an_error():
        view = memoryview(piece)
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written
    return len(piece)


def _sha256(file: Path) -> str:
    sha256 = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(CHUNK):
            sha256.update(piece)
    return sha256.hexdigest()
