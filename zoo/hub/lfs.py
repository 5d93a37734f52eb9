"""Git LFS: large files, sent to signed addresses that expire, in one piece or in parts.

The client asks for the addresses of the contents that it is about to commit, sends each content,
and has it verified. Nothing it sends is of use before its sha256 and size are the announced ones.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zoo.hub.access import may_see
from zoo.hub.blobs import CHUNK, full_disk_is_an_error
from zoo.hub.errors import BadRequestError, ContentError
from zoo.hub.objects import Repo
from zoo.hub.views import JsonDict
from zoo.hub.web import Fields, Hub, base_url, in_thread, param, pieces, read_json, route

PART = 64 << 20  # bytes; what is larger comes in parts of this size
_MEDIA_TYPE = "application/vnd.git-lfs+json"


class Lfs:
    """The routes of large files."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.storage = hub.storage

    def routes(self) -> list[Route]:
        upload = "/api/lfs/{org}/{name}/{oid}"
        return [
            route("POST", "/{org}/{name}.git/info/lfs/objects/batch", self.batch),
            route("PUT", upload, self.upload),
            route("PUT", upload + "/parts/{part}", self.upload_part),
            route("POST", upload + "/complete", self.complete),
            route("POST", upload + "/verify", self.verify),
        ]

    # Addresses

    async def batch(self, request: Request) -> Response:
        body = await read_json(request, self.hub)
        return await in_thread(self._batch, request, body)

    def _batch(self, request: Request, body: Fields) -> Response:
        repo, user = self.hub.repo_to_write(request)
        if body.get("operation", str) != "upload":
            raise BadRequestError("This hub serves LFS for uploads only; download by /resolve/.")
        transfers = body.get("transfers", list, ["basic"])
        objects, transfer = [], "basic"
        for wanted in body.objects("objects"):
            oid, size = wanted.sha256("oid"), wanted.size("size")
            line: JsonDict = {"oid": oid, "size": size}
            blob = self.storage.content(repo.id, oid, lambda other: may_see(user, other))
            if blob:
                self.storage.received(repo.id, oid)  # so that no gc takes it before the commit
            elif size > self.hub.limits.file:
                limit = f"This hub takes files of up to {self.hub.limits.file} bytes."
                line["error"] = {"code": 413, "message": limit}
            else:
                in_parts = "multipart" in transfers and size > PART
                transfer = "multipart" if in_parts else transfer
                line |= {"authenticated": True, "actions": self._actions(request, line, in_parts)}
            objects.append(line)
        return JSONResponse({"transfer": transfer, "objects": objects}, media_type=_MEDIA_TYPE)

    def _actions(self, request: Request, line: JsonDict, in_parts: bool) -> JsonDict:
        oid, size = line["oid"], line["size"]
        repo = f"{param(request, 'org')}/{param(request, 'name')}"

        def signed(method: str, suffix: str, **query: object) -> str:
            path = f"/api/lfs/{repo}/{oid}{suffix}"
            return base_url(request) + self.hub.signer.sign(method, path, size=size, **query)

        verify = {"href": signed("POST", "/verify")}
        if not in_parts:
            return {"upload": {"href": signed("PUT", "")}, "verify": verify}
        name = uuid.uuid4().hex
        header = {
            f"{n:05}": signed("PUT", f"/parts/{n}", upload=name)
            for n in range(1, -(-size // PART) + 1)
        }
        href = signed("POST", "/complete", upload=name)
        upload = {"href": href, "header": {"chunk_size": str(PART), **header}}
        return {"upload": upload, "verify": verify}

    def _signed(self, request: Request) -> tuple[Repo, str, int]:
        """What an address was signed for: the repo, and the content's sha256 and size."""
        query = request.query_params
        self.hub.signer.check(request.method, request.url.path, query)
        repo = self.storage.repo(f"{param(request, 'org')}/{param(request, 'name')}")
        return repo, param(request, "oid"), int(query["size"])

    # Contents

    async def upload(self, request: Request) -> Response:
        repo, oid, size = await in_thread(self._signed, request)
        with self.storage.blobs.receive() as content:
            async for piece in pieces(request, size, "The content"):
                await in_thread(content.write, piece)
            content.check(oid, size)
            await in_thread(self.storage.blobs.keep, content)
        await in_thread(self.storage.received, repo.id, oid)
        return Response()

    async def upload_part(self, request: Request) -> Response:
        """Write a part at its place in a file that the parts share; again, if it comes again."""
        _, _, size = await in_thread(self._signed, request)
        start = (int(param(request, "part")) - 1) * PART
        length, sha1, end = min(PART, size - start), hashlib.sha1(), start
        descriptor = await in_thread(self._open_parts, request)
        try:
            async for piece in pieces(request, length, "The part"):
                sha1.update(piece)
                end += await in_thread(_write_at, descriptor, piece, end)
        finally:
            os.close(descriptor)
        if end - start != length:
            raise ContentError(f"The part has {end - start} bytes instead of {length}.")
        return Response(headers={"ETag": f'"{sha1.hexdigest()}"'})

    def _parts_file(self, request: Request) -> Path:
        return self.storage.blobs.incoming / f"{request.query_params['upload']}.parts"

    def _open_parts(self, request: Request) -> int:
        file = self._parts_file(request)
        with full_disk_is_an_error():
            file.parent.mkdir(parents=True, exist_ok=True)
            return os.open(file, os.O_RDWR | os.O_CREAT, 0o644)

    async def complete(self, request: Request) -> Response:
        body = await read_json(request, self.hub)
        return await in_thread(self._complete, request, body)

    def _complete(self, request: Request, body: Fields) -> Response:
        repo, oid, size = self._signed(request)
        file = self._parts_file(request)
        try:
            found, received = _sha256(file), file.stat().st_size
        except FileNotFoundError:
            # The answer to the first completion may have been lost on its way.
            if self.storage.blobs.size(oid) != size:
                raise ContentError("None of the parts has come in.") from None
        else:
            if (found, received) != (oid, size) or len(body.objects("parts")) != -(-size // PART):
                file.unlink(missing_ok=True)
                raise ContentError(
                    f"The parts are {received} bytes with sha256 {found}; expected {size} bytes "
                    f"with sha256 {oid}. They were thrown away: send the file again."
                )
            self.storage.blobs.adopt(file, oid)
        self.storage.received(repo.id, oid)
        return JSONResponse({"success": True})

    async def verify(self, request: Request) -> Response:
        body = await read_json(request, self.hub)
        return await in_thread(self._verify, request, body)

    def _verify(self, request: Request, body: Fields) -> Response:
        _, oid, size = self._signed(request)
        if (body.sha256("oid"), body.size("size")) != (oid, size):
            raise BadRequestError("This address verifies another content.")
        if self.storage.blobs.size(oid) != size:
            raise ContentError(f"The content with sha256 {oid} has not come in: send it again.")
        return JSONResponse({"oid": oid, "size": size})


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
