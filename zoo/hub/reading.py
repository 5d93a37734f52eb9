"""The reading half of the protocol: who one is, what there is, and the files themselves."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from urllib.parse import parse_qs, quote

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from zoo.hub import views
from zoo.hub.access import may_see
from zoo.hub.errors import (
    BadRequestError,
    GatedRepoError,
    MissingRepoError,
    UnauthorizedError,
)
from zoo.hub.objects import Commit, Repo, check_path
from zoo.hub.web import (
    Hub,
    flag,
    in_thread,
    linked,
    page_of,
    param,
    read_body,
    route,
)

PAGE = 1000  # entries of a listing
LOG_PAGE = 50  # commits
MAX_FORM = 1_000_000  # bytes
_SORT_KEYS = {
    "created_at": "createdAt",
    "createdAt": "createdAt",
    "last_modified": "lastModified",
    "lastModified": "lastModified",
    "downloads": "downloads",
    "likes": "likes",
    "trending_score": "likes",
    "trendingScore": "likes",
    "id": "id",
}


class Reading:
    """The routes that change nothing."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.storage = hub.storage

    def routes(self) -> list[Route]:
        """Every address, and the client's calls that need it."""
        repo = "/api/models/{org}/{name}"
        return [
            route("GET", "/api/agent-harnesses", self.agent_harnesses),  # a process's first call
            route("GET", "/api/whoami-v2", self.whoami),  # whoami, hf auth whoami
            route("GET", "/api/models", self.list_models),
            route("GET", "/api/models/{name}", self.unknown_repo),
            route("GET", repo, self.model),  # model_info, repo_exists, snapshot_download
            route("GET", repo + "/revision/{revision}", self.model),
            route("GET", repo + "/refs", self.refs),  # list_repo_refs
            route("GET", repo + "/commits/{revision}", self.commits),  # list_repo_commits
            route("GET", repo + "/tree/{revision}", self.tree),  # list_repo_tree
            route("GET", repo + "/tree/{revision}/{path:path}", self.tree),
            route("POST", repo + "/paths-info/{revision}", self.paths_info),  # get_paths_info
            route("GET", "/{org}/{name}/resolve/{revision}/{path:path}", self.resolve),
            route("GET", "/{name}/resolve/{revision}/{path:path}", self.unknown_repo),
        ]

    # About the caller

    def agent_harnesses(self, request: Request) -> Response:
        return JSONResponse({"standardEnvVars": [], "harnesses": {}})

    def whoami(self, request: Request) -> Response:
        user = self.hub.user(request)
        if user is None:
            raise UnauthorizedError("This address needs an access token.")
        token = {"displayName": f"{user.name}'s token", "role": user.role}
        orgs = [{"type": "org", "name": org} for org in user.orgs]
        return JSONResponse(
            {"type": "user", "name": user.name, "orgs": orgs, "auth": {"accessToken": token}}
        )

    # Repos

    def unknown_repo(self, request: Request) -> Response:
        raise MissingRepoError(param(request, "name"))

    def list_models(self, request: Request) -> Response:
        user, query = self.hub.user(request), request.query_params
        wanted = {tag for value in query.getlist("filter") for tag in value.split(",")}
        wanted.update(query.getlist("pipeline_tag"))
        repos = [
            repo
            for repo in self.storage.repos()
            if may_see(user, repo)
            and query.get("author") in (None, repo.owner)
            and query.get("search", "").lower() in repo.id.lower()
        ]
        models = (self._view(repo, self.storage.commit_at(repo, "main")) for repo in repos)
        found = [model for model in models if wanted <= set(model["tags"])]
        page, cursor = page_of(request, _sorted(request, found), PAGE)
        return linked(request, page, request.url.path, cursor)

    def model(self, request: Request) -> Response:
        repo = self.hub.repo(request)
        blobs = flag(request.query_params.get("blobs"))
        return JSONResponse(self._view(repo, self._commit(request, repo), blobs=blobs))

    def _commit(self, request: Request, repo: Repo) -> Commit:
        revision = param(request, "revision") if "revision" in request.path_params else "main"
        return self.storage.commit_at(repo, revision)

    def _view(self, repo: Repo, commit: Commit, *, blobs: bool = False) -> views.JsonDict:
        readme = commit.files.get("README.md")
        if readme is None or readme.lfs:
            return views.model(repo, commit, b"", blobs=blobs)
        content = self.storage.blob_path(readme).read_bytes()
        return views.model(repo, commit, content, blobs=blobs)

    def refs(self, request: Request) -> Response:
        return JSONResponse(views.refs(self.hub.repo(request)))

    def commits(self, request: Request) -> Response:
        repo = self.hub.repo(request)
        log = self.storage.history(repo, self._commit(request, repo))
        page = [views.commit_line(commit) for commit in islice(log, LOG_PAGE)]
        older = next(log, None)
        path = f"/api/models/{repo.id}/commits/{older.id}" if older else ""
        return linked(request, page, path, older and older.id)

    # Files

    def tree(self, request: Request) -> Response:
        repo = self.hub.repo(request)
        commit = self._commit(request, repo)
        folder = check_path(param(request, "path")) if "path" in request.path_params else ""
        query = request.query_params
        entries = views.tree(commit, folder, recursive=flag(query.get("recursive")))
        page, cursor = page_of(request, entries, PAGE)
        if flag(query.get("expand")):
            views.add_last_commits(page, self.storage.history(repo, commit))
        # The next page is of this very commit, wherever a branch has moved by then.
        here = f"/api/models/{repo.id}/tree/{commit.id}/{quote(folder)}".rstrip("/")
        return linked(request, page, here, cursor)

    async def paths_info(self, request: Request) -> Response:
        body = await read_body(request, MAX_FORM)
        form = parse_qs(body.decode("ascii", "replace"))
        return await in_thread(self._paths_info, request, form)

    def _paths_info(self, request: Request, form: Mapping[str, list[str]]) -> Response:
        repo = self.hub.repo(request)
        commit = self._commit(request, repo)
        entries = views.paths(commit, map(check_path, form.get("paths", [])))
        if flag(form.get("expand", [""])[0]):
            views.add_last_commits(entries, self.storage.history(repo, commit))
        return JSONResponse(entries)

    def resolve(self, request: Request) -> Response:
        repo = self.hub.repo(request)
        path = check_path(param(request, "path"))
        self._check_gate(request, repo)
        commit = self._commit(request, repo)
        origin = {"X-Repo-Commit": commit.id}
        if commit.id != param(request, "revision"):
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
        user = self.hub.user(request)
        if repo.gated and not (user and user.is_member(repo.owner)):
            raise GatedRepoError(
                f"Access to model {repo.id} is restricted to the members of {repo.owner}.",
                signed_in=user is not None,
            )


def _sorted(request: Request, models: list[views.JsonDict]) -> list[views.JsonDict]:
    """In the order that is asked for, the greatest first; by name where none is."""
    name = request.query_params.get("sort")
    if name is None:
        return models
    if name not in _SORT_KEYS:
        raise BadRequestError(f"sort={name!r} is none of {', '.join(_SORT_KEYS)}.")
    ascending = request.query_params.get("direction") == "1"
    return sorted(models, key=lambda model: model[_SORT_KEYS[name]], reverse=not ascending)
