"""The reading half of the Hugging Face hub protocol, for models: routes over a `Storage`.

The table `_ROUTES` names every address, and the calls of the `huggingface_hub` client behind it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal
from urllib.parse import parse_qs, quote, unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from zoo.hub import views
from zoo.hub.faults import FaultMiddleware, Faults
from zoo.hub.storage import (
    Commit,
    InvalidNameError,
    MissingError,
    MissingRepoError,
    Repo,
    Storage,
    check_path,
)

PAGE = 1000  # entries of a listing
LOG_PAGE = 50  # commits
MAX_FORM = 1_000_000  # bytes
_POSITIVE = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, kw_only=True)
class User:
    """Whom a token stands for. Members of a repo's owner may read it, private or gated.

    Attributes:
        name: of the user, who is also the owner of the repos `name/...`.
        orgs: the other owners that the user is a member of.
        role: what the token allows.
    """

    name: str
    orgs: tuple[str, ...] = ()
    role: Literal["read", "write"] = "read"

    def is_member(self, owner: str) -> bool:
        return owner in (self.name, *self.orgs)


def create_app(
    storage: Storage, *, tokens: Mapping[str, User] | None = None, faults: Faults | None = None
) -> ASGIApp:
    """An ASGI application that serves `storage`.

    Args:
        storage: the repos.
        tokens: the user that each access token stands for; every other token is refused.
        faults: what to do wrong, for tests.
    """
    hub = _Hub(storage, tokens or {})
    return Starlette(
        routes=[
            Route(path, getattr(hub, name), methods=[method]) for method, path, name in _ROUTES
        ],
        middleware=[
            Middleware(FaultMiddleware, faults=faults or Faults()),
            Middleware(_RouteOnRawPath),
        ],
        exception_handlers={
            HTTPException: _http_error,
            MissingError: _missing_error,
            InvalidNameError: _name_error,
        },
    )


class _RouteOnRawPath:
    """Lets routes match the path before it is decoded: a branch `a/b` comes as `a%2Fb`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": scope["raw_path"].decode("ascii")}
        await self.app(scope, receive, send)


class _Hub:
    """The routes. Those that are plain functions run in worker threads, for they read the disk."""

    def __init__(self, storage: Storage, tokens: Mapping[str, User]) -> None:
        self.storage = storage
        self.tokens = tokens

    # About the caller

    def agent_harnesses(self, request: Request) -> Response:
        return JSONResponse({"standardEnvVars": [], "harnesses": {}})

    def whoami(self, request: Request) -> Response:
        user = self._user(request)
        if user is None:
            raise HTTPException(401, "This address needs an access token.")
        token = {"displayName": f"{user.name}'s token", "role": user.role}
        orgs = [{"type": "org", "name": org} for org in user.orgs]
        return JSONResponse(
            {"type": "user", "name": user.name, "orgs": orgs, "auth": {"accessToken": token}}
        )

    def _user(self, request: Request) -> User | None:
        header = request.headers.get("authorization")
        if header is None:
            return None
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or token not in self.tokens:
            # The client knows this sentence, and takes any other 401 for a missing repo.
            raise HTTPException(401, "Invalid credentials in Authorization header")
        return self.tokens[token]

    # What a request is about

    def _repo(self, request: Request) -> Repo:
        """The repo of the path. A private one is not there at all for whom it is not."""
        user = self._user(request)
        repo = self.storage.repo(f"{_param(request, 'org')}/{_param(request, 'name')}")
        if not _may_see(user, repo):
            raise MissingRepoError(repo.id)
        return repo

    def _commit(self, request: Request, repo: Repo) -> Commit:
        revision = _param(request, "revision") if "revision" in request.path_params else "main"
        return self.storage.commit_at(repo, revision)

    # Repos

    def unknown_repo(self, request: Request) -> Response:
        raise MissingRepoError(_param(request, "name"))

    def list_models(self, request: Request) -> Response:
        user, query = self._user(request), request.query_params
        wanted = {tag for value in query.getlist("filter") for tag in value.split(",")}
        wanted.update(query.getlist("pipeline_tag"))
        repos = [
            repo
            for repo in self.storage.repos()
            if _may_see(user, repo)
            and query.get("author") in (None, repo.owner)
            and query.get("search", "").lower() in repo.id.lower()
        ]
        models = (self._view(repo, self.storage.commit_at(repo, "main")) for repo in repos)
        found = [model for model in models if wanted <= set(model["tags"])]
        return _linked(*_page(request, found, "id"))

    def model(self, request: Request) -> Response:
        repo = self._repo(request)
        blobs = _flag(request.query_params.get("blobs"))
        return JSONResponse(self._view(repo, self._commit(request, repo), blobs=blobs))

    def _view(self, repo: Repo, commit: Commit, *, blobs: bool = False) -> views.JsonDict:
        readme = commit.files.get("README.md")
        if readme is None or readme.lfs:
            return views.model(repo, commit, b"", blobs=blobs)
        content = self.storage.blob_path(readme).read_bytes()
        return views.model(repo, commit, content, blobs=blobs)

    def refs(self, request: Request) -> Response:
        return JSONResponse(views.refs(self._repo(request)))

    def commits(self, request: Request) -> Response:
        repo = self._repo(request)
        log = self.storage.history(repo, self._commit(request, repo))
        page = [views.commit_line(commit) for commit in islice(log, LOG_PAGE)]
        older = next(log, None)
        path = f"/api/models/{repo.id}/commits/{older.id}" if older else None
        return _linked(page, request.url.replace(path=path) if path else None)

    # Files

    def tree(self, request: Request) -> Response:
        repo = self._repo(request)
        commit = self._commit(request, repo)
        folder = check_path(_param(request, "path")) if "path" in request.path_params else ""
        query = request.query_params
        entries = views.tree(commit, folder, recursive=_flag(query.get("recursive")))
        # The next page is of this very commit, wherever a branch has moved by then.
        here = f"/api/models/{repo.id}/tree/{commit.id}/{quote(folder)}".rstrip("/")
        page, following = _page(request, entries, "path", here)
        if _flag(query.get("expand")):
            views.add_last_commits(page, self.storage.history(repo, commit))
        return _linked(page, following)

    async def paths_info(self, request: Request) -> Response:
        form = await _read_form(request)
        return await run_in_threadpool(self._paths_info, request, form)

    def _paths_info(self, request: Request, form: Mapping[str, list[str]]) -> Response:
        repo = self._repo(request)
        commit = self._commit(request, repo)
        entries = views.paths(commit, map(check_path, form.get("paths", [])))
        if _flag(form.get("expand", [""])[0]):
            views.add_last_commits(entries, self.storage.history(repo, commit))
        return JSONResponse(entries)

    def resolve(self, request: Request) -> Response:
        repo = self._repo(request)
        path = check_path(_param(request, "path"))
        self._check_gate(request, repo)
        commit = self._commit(request, repo)
        origin = {"X-Repo-Commit": commit.id}
        if commit.id != _param(request, "revision"):
            # A branch may move between a client's HEAD and its GET: both are to see one commit.
            raw = request.path_params["path"]
            return RedirectResponse(f"/{repo.id}/resolve/{commit.id}/{raw}", headers=origin)
        blob = commit.file(path)
        headers = {**origin, "ETag": f'"{blob.etag}"'}
        if blob.lfs:
            headers |= {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(blob.size)}
        file = self.storage.blob_path(blob)
        return FileResponse(file, media_type="application/octet-stream", headers=headers)

    def _check_gate(self, request: Request, repo: Repo) -> None:
        user = self._user(request)
        if repo.gated and not (user and user.is_member(repo.owner)):
            raise HTTPException(
                403 if user else 401,
                f"Access to model {repo.id} is restricted to the members of {repo.owner}.",
                {"X-Error-Code": "GatedRepo"},
            )


_REPO = "/api/models/{org}/{name}"
_ROUTES = [
    # method, path, method of _Hub; and the client's calls that need it
    ("GET", "/api/agent-harnesses", "agent_harnesses"),  # the first of a process, whatever it is
    ("GET", "/api/whoami-v2", "whoami"),  # whoami
    ("GET", "/api/models", "list_models"),
    ("GET", "/api/models/{name}", "unknown_repo"),
    ("GET", _REPO, "model"),  # model_info, repo_exists, snapshot_download
    ("GET", _REPO + "/revision/{revision}", "model"),
    ("GET", _REPO + "/refs", "refs"),  # list_repo_refs
    ("GET", _REPO + "/commits/{revision}", "commits"),  # list_repo_commits
    ("GET", _REPO + "/tree/{revision}", "tree"),  # list_repo_tree, snapshot_download
    ("GET", _REPO + "/tree/{revision}/{path:path}", "tree"),
    ("POST", _REPO + "/paths-info/{revision}", "paths_info"),  # get_paths_info
    ("GET", "/{org}/{name}/resolve/{revision}/{path:path}", "resolve"),  # every download
    ("GET", "/{name}/resolve/{revision}/{path:path}", "unknown_repo"),
]


def _param(request: Request, name: str) -> str:
    try:
        return unquote(request.path_params[name], errors="strict")
    except UnicodeDecodeError:
        raise HTTPException(400, "The address is not UTF-8.") from None


def _flag(value: str | None) -> bool:
    return value is not None and value.lower() in ("true", "1")


def _may_see(user: User | None, repo: Repo) -> bool:
    return not repo.private or (user is not None and user.is_member(repo.owner))


async def _read_form(request: Request) -> dict[str, list[str]]:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM:
            raise HTTPException(413, f"The form is larger than {MAX_FORM} bytes.")
    return parse_qs(body.decode("ascii", "replace"))


def _page(
    request: Request, entries: Sequence[views.JsonDict], key: str, path: str | None = None
) -> tuple[list[views.JsonDict], URL | None]:
    """One page of `entries`, which `key` sorts, and the address of the next, on `path`."""
    query = request.query_params
    limit = query.get("limit", str(PAGE))
    if not _POSITIVE.fullmatch(limit):
        raise HTTPException(400, f"limit={limit!r} is no positive integer.")
    rest = [entry for entry in entries if entry[key] > query.get("cursor", "")]
    page = rest[: min(int(limit), PAGE)]
    if len(page) == len(rest):
        return page, None
    url = request.url.replace(path=path or request.url.path)
    return page, url.include_query_params(cursor=page[-1][key])


def _linked(page: list[views.JsonDict], following: URL | None) -> JSONResponse:
    return JSONResponse(page, headers={"Link": f'<{following}>; rel="next"'} if following else None)


def _error(status: int, message: str, headers: Mapping[str, str]) -> Response:
    """An error as the client reads it: from the headers, which a HEAD has too, and the body."""
    line = message.encode("ascii", "backslashreplace").decode()
    return JSONResponse({"error": message}, status, {"X-Error-Message": line, **headers})


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, error.headers or {})


async def _missing_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, MissingError)
    commit = {"X-Repo-Commit": error.commit} if error.commit else {}
    return _error(404, str(error), {"X-Error-Code": error.code, **commit})


async def _name_error(request: Request, error: Exception) -> Response:
    return _error(400, str(error), {})
