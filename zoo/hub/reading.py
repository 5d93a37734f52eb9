"""The reading half of the protocol: who one is, what there is, and the files themselves."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qs, quote

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from zoo.errors import ConfigError
from zoo.front_matter import load_front_matter, split_front_matter
from zoo.hub import views
from zoo.hub.access import User, may_see
from zoo.hub.errors import BadRequestError, LimitError, MissingRepoError, UnauthorizedError
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
MAX_PATHS = 10_000  # that one request asks about
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
        repo, user, seen = "/api/models/{org}/{name}", self.hub.user, self.hub.repo
        return [
            # a process's first call
            route("GET", "/api/agent-harnesses", self.hub.anybody, self.agent_harnesses),
            route("GET", "/api/whoami-v2", user, self.whoami),  # whoami, hf auth whoami
            route("GET", "/api/models", user, self.list_models),
            route("GET", "/api/models/{name}", user, self.unknown_repo),
            route("GET", repo, seen, self.model),  # model_info, repo_exists, snapshot_download
            route("GET", repo + "/revision/{revision}", seen, self.model),
            route("GET", repo + "/refs", seen, self.refs),  # list_repo_refs
            route("GET", repo + "/commits/{revision}", seen, self.commits),  # list_repo_commits
            route("GET", repo + "/tree/{revision}", seen, self.tree),  # list_repo_tree
            route("GET", repo + "/tree/{revision}/{path:path}", seen, self.tree),
            route("POST", repo + "/paths-info/{revision}", seen, self.paths_info),  # get_paths_info
            route(
                "GET",
                "/{org}/{name}/resolve/{revision}/{path:path}",
                self.hub.repo_to_read,
                self.resolve,
            ),
            route("GET", "/{name}/resolve/{revision}/{path:path}", user, self.unknown_repo),
        ]

    # About the caller

    def agent_harnesses(self, request: Request, _: None) -> Response:
        return JSONResponse({"standardEnvVars": [], "harnesses": {}})

    def whoami(self, request: Request, user: User | None) -> Response:
        if user is None:
            raise UnauthorizedError("This address needs an access token.")
        token = {"displayName": f"{user.name}'s token", "role": user.role}
        orgs = [{"type": "org", "name": org} for org in user.orgs]
        return JSONResponse(
            {"type": "user", "name": user.name, "orgs": orgs, "auth": {"accessToken": token}}
        )

    # Repos

    def unknown_repo(self, request: Request, _: User | None) -> Response:
        raise MissingRepoError(param(request, "name"))

    def list_models(self, request: Request, user: User | None) -> Response:
        query = request.query_params
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

    def model(self, request: Request, repo: Repo) -> Response:
        blobs = flag(request.query_params.get("blobs"))
        return JSONResponse(self._view(repo, self._commit(request, repo), blobs=blobs))

    def _commit(self, request: Request, repo: Repo) -> Commit:
        revision = param(request, "revision") if "revision" in request.path_params else "main"
        return self.storage.commit_at(repo, revision)

    def _view(self, repo: Repo, commit: Commit, *, blobs: bool = False) -> views.JsonDict:
        readme = commit.files.get("README.md")
        card = _front_matter(self.storage.blob_path(readme)) if readme and not readme.lfs else {}
        return views.model(repo, commit, card, blobs=blobs)

    def refs(self, request: Request, repo: Repo) -> Response:
        return JSONResponse(views.refs(repo))

    def commits(self, request: Request, repo: Repo) -> Response:
        log = self.storage.history(repo, self._commit(request, repo))
        page = [views.commit_line(commit) for commit in islice(log, LOG_PAGE)]
        older = next(log, None)
        path = f"/api/models/{repo.id}/commits/{older.id}" if older else ""
        return linked(request, page, path, older and older.id)

    # Files

    def tree(self, request: Request, repo: Repo) -> Response:
        commit = self._commit(request, repo)
        folder = check_path(param(request, "path")) if "path" in request.path_params else ""
        query = request.query_params
        entries = views.tree(commit, folder, recursive=flag(query.get("recursive")))
        page, cursor = page_of(request, entries, PAGE)
        if flag(query.get("expand")):
            views.add_last_commits(page, self.storage.states(repo, commit))
        # The next page is of this very commit, wherever a branch has moved by then.
        here = f"/api/models/{repo.id}/tree/{commit.id}/{quote(folder)}".rstrip("/")
        return linked(request, page, here, cursor)

    async def paths_info(self, request: Request, repo: Repo) -> Response:
        body = await read_body(request, MAX_FORM)
        try:
            form = parse_qs(body.decode("ascii", "replace"), max_num_fields=MAX_PATHS)
        except ValueError:
            raise LimitError(f"This hub tells of up to {MAX_PATHS} paths at once.") from None
        return await in_thread(self._paths_info, request, repo, form)

    def _paths_info(self, request: Request, repo: Repo, form: Mapping[str, list[str]]) -> Response:
        commit = self._commit(request, repo)
        entries = views.paths(commit, map(check_path, form.get("paths", [])))
        if flag(form.get("expand", [""])[0]):
            views.add_last_commits(entries, self.storage.states(repo, commit))
        return JSONResponse(entries)

    def resolve(self, request: Request, repo: Repo) -> Response:
        path = check_path(param(request, "path"))
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


@lru_cache(maxsize=1000)
def _front_matter(content: Path) -> views.JsonDict:
    """What a README.md says to programs, every scalar as a text; nothing where it is broken."""
    block, _ = split_front_matter(content.read_text("utf-8", "replace"))
    try:
        return load_front_matter(block, "texts")
    except ConfigError:  # the hub serves a repo whose card is broken, too
        return {}


def _sorted(request: Request, models: list[views.JsonDict]) -> list[views.JsonDict]:
    """In the order that is asked for, the greatest first; by name where none is."""
    name = request.query_params.get("sort")
    if name is None:
        return models
    if name not in _SORT_KEYS:
        raise BadRequestError(f"sort={name!r} is none of {', '.join(_SORT_KEYS)}.")
    ascending = request.query_params.get("direction") == "1"
    return sorted(models, key=lambda model: model[_SORT_KEYS[name]], reverse=not ascending)
