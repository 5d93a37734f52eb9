"""Commits: what is asked before one, and the commit itself, a JSON object on each line."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zoo.errors import ConfigError
from zoo.front_matter import load_front_matter, split_front_matter
from zoo.hub.access import User, may_read
from zoo.hub.errors import BadRequestError, ContentError, LimitError
from zoo.hub.objects import Blob, Change, Delete, Put, Repo, check_path, is_lfs
from zoo.hub.web import (
    Fields,
    Hub,
    Own,
    base_url,
    failure,
    flag,
    in_thread,
    param,
    pieces,
    read_json,
    route,
)


class Committing:
    """The routes that change what is in a repo."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.storage = hub.storage

    def routes(self) -> list[Route]:
        """Every address, and the client's calls that need it."""
        repo, own = "/api/models/{org}/{name}", self.hub.repo_to_write
        return [
            # every README.md
            route("POST", "/api/validate-yaml", self.hub.user, self.validate_yaml),
            route("POST", repo + "/preupload/{revision}", own, self.preupload),  # every commit
            # create_commit, hf upload
            route("POST", repo + "/commit/{revision}", own, self.commit),
        ]

    async def validate_yaml(self, request: Request, _: User | None) -> Response:
        body = await read_json(request, self.hub)
        problem = await in_thread(_problem_of, body.get("content", str))
        if problem:
            return failure(400, problem, errors=[{"message": problem}], warnings=[])
        return JSONResponse({"errors": [], "warnings": []})

    # Before a commit

    async def preupload(self, request: Request, own: Own) -> Response:
        body = await read_json(request, self.hub)
        return await in_thread(self._preupload, request, own[0], body)

    def _preupload(self, request: Request, repo: Repo, body: Fields) -> Response:
        commit = self.storage.commit_at(repo, param(request, "revision"))
        answers = []
        for file in body.objects("files"):
            path, size = check_path(file.get("path", str)), file.size("size")
            self._check_size(path, size)
            answers.append(
                {
                    "path": path,
                    "uploadMode": "lfs" if is_lfs(path, size) else "regular",
                    "shouldIgnore": False,
                    **({"oid": commit.files[path].etag} if path in commit.files else {}),
                }
            )
        return JSONResponse({"files": answers, "commitOid": commit.id})

    def _check_size(self, path: str, size: int) -> None:
        if size > self.hub.limits.file:
            raise LimitError(
                f"{path!r} has {size} bytes; this hub takes files of up to "
                f"{self.hub.limits.file} bytes."
            )

    # The commit

    async def commit(self, request: Request, own: Own) -> Response:
        repo, user = own
        header, changes = Fields({}), list[Change]()
        async for key, value in self._lines(request):
            if key == "header":
                header = value
                continue
            change: Change | None = _deletion(key, value)
            if change is None:
                change = await in_thread(self._put, repo, user, key, value)
            changes.append(change)
            if len(changes) > self.hub.limits.files:
                raise LimitError(
                    f"One commit changes at most {self.hub.limits.files} files on this hub. "
                    "Nothing was committed."
                )
        return await in_thread(self._commit, request, repo, user, header, changes)

    async def _lines(self, request: Request) -> AsyncIterator[tuple[str, Fields]]:
        """The key and the value of every line, of which one is in memory at a time."""
        # base64 makes 4 bytes of 3; there is a path on the line, too.
        longest = self.hub.limits.inline_file * 4 // 3 + 10_000
        rest = bytearray()
        async for piece in pieces(request, self.hub.limits.commit, "The commit"):
            *whole, tail = (bytes(rest) + piece if b"\n" in piece else piece).split(b"\n")
            if whole:
                rest.clear()
            for line in whole:
                if line.strip():
                    yield _parse(line)
            rest += tail
            if len(rest) > longest:
                raise self._too_large_inside()
        if rest.strip():
            yield _parse(bytes(rest))

    def _put(self, repo: Repo, user: User, key: str, value: Fields) -> Change:
        path = check_path(value.get("path", str))
        match key:
            case "file":
                content = _decoded(value)
                if len(content) > self.hub.limits.inline_file:
                    raise self._too_large_inside()
                return self.storage.add(path, content, lfs=False)
            case "lfsFile":
                return Put(path, self._lfs_object(repo, user, path, value))
        raise BadRequestError(f"A commit has no {key!r}.")

    def _too_large_inside(self) -> LimitError:
        return LimitError(
            f"A file inside the commit is larger than the {self.hub.limits.inline_file} bytes that "
            "this hub takes there: upload it as an LFS object. Nothing was committed."
        )

    def _lfs_object(self, repo: Repo, user: User, path: str, value: Fields) -> Blob:
        sha256 = value.sha256("oid")
        blob = self.storage.content(repo.id, sha256, lambda other: may_read(user, other))
        if blob is None:
            raise ContentError(
                f"The content of {path!r} (sha256 {sha256}) has not come in for {repo.id!r}. "
                "Nothing was committed: upload it first."
            )
        size = value.maybe("size", int)  # a copy of a file comes without
        if size not in (None, blob.size):
            raise ContentError(
                f"{path!r} has {blob.size} bytes, not {size}. Nothing was committed."
            )
        return blob

    def _commit(
        self, request: Request, repo: Repo, user: User, header: Fields, changes: list[Change]
    ) -> Response:
        as_pull = flag(request.query_params.get("create_pr"))
        summary = header.get("summary", str)
        message = f"{summary}\n\n{header.get('description', str, '')}".rstrip()
        commit_id, revision = self.storage.apply(
            repo.id,
            param(request, "revision"),
            changes,
            message=message,
            author=user.name,
            parent=header.maybe("parentCommit", str),
            as_pull=as_pull,
        )
        url = f"{base_url(request)}/{repo.id}"
        answer = {"success": True, "commitOid": commit_id, "commitUrl": f"{url}/commit/{commit_id}"}
        if as_pull:
            answer["pullRequestUrl"] = f"{url}/discussions/{revision.rpartition('/')[2]}"
        return JSONResponse(answer)


def _parse(line: bytes) -> tuple[str, Fields]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise BadRequestError("A line of the commit is no JSON. Nothing was committed.") from None
    fields = Fields(value)
    return fields.get("key", str), Fields(fields.get("value", dict))


def _deletion(key: str, value: Fields) -> Delete | None:
    """What a line deletes; None where it adds something."""
    if key == "deletedFolder":
        return Delete(check_path(value.get("path", str).removesuffix("/")), folder=True)
    return Delete(check_path(value.get("path", str))) if key == "deletedFile" else None


def _decoded(value: Fields) -> bytes:
    content, encoding = value.get("content", str), value.get("encoding", str, "utf-8")
    if encoding == "utf-8":
        return content.encode("utf-8", "surrogatepass")
    try:
        if encoding == "base64":
            return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise BadRequestError(f"{value.get('path', str)!r} is not encoded as base64 or utf-8.")


def _problem_of(readme: str) -> str | None:
    """What is wrong with the front matter of a README.md."""
    block, _ = split_front_matter(readme)
    try:
        load_front_matter(block, "texts")
    except ConfigError as error:
        return str(error)
    return None
