"""Making, moving and deleting repos, branches and tags."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zoo.hub.access import User, check_may_write, may_see
from zoo.hub.errors import BadRequestError, InvalidNameError, MissingRepoError, TakenError
from zoo.hub.objects import Repo
from zoo.hub.web import Fields, Hub, Own, base_url, failure, in_thread, param, read_json, route


class Managing:
    """The routes that change repos, apart from what is in them."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.storage = hub.storage

    def routes(self) -> list[Route]:
        """Every address, and the client's calls that need it."""
        repo, writer, own = "/api/models/{org}/{name}", self.hub.writer, self.hub.repo_to_write
        return [
            route("POST", "/api/repos/create", writer, self.create),  # create_repo, hf repos create
            route("DELETE", "/api/repos/delete", writer, self.delete),  # delete_repo
            route("POST", "/api/repos/move", writer, self.move),  # move_repo
            route("PUT", repo + "/settings", own, self.settings),  # update_repo_settings
            route("POST", repo + "/branch/{revision}", own, self.create_branch),
            route("DELETE", repo + "/branch/{revision}", own, self.delete_branch),
            route("POST", repo + "/tag/{revision}", own, self.create_tag),
            route("DELETE", repo + "/tag/{revision}", own, self.delete_tag),
        ]

    async def create(self, request: Request, user: User) -> Response:
        body = await read_json(request, self.hub)
        return await in_thread(self._create, request, user, body)

    def _create(self, request: Request, user: User, body: Fields) -> Response:
        repo_id, private = _named(user, body), _private(body)
        check_may_write(user, repo_id.partition("/")[0])
        url = f"{base_url(request)}/{repo_id}"
        try:
            self.storage.create_repo(repo_id, private=bool(private), author=user.name)
        except TakenError as error:
            return failure(error.status, str(error), error.code, url=url)
        return JSONResponse({"url": url, "name": repo_id, "private": bool(private)})

    async def delete(self, request: Request, user: User) -> Response:
        body = await read_json(request, self.hub)
        return await in_thread(self._delete, request, user, body)

    def _delete(self, request: Request, user: User, body: Fields) -> Response:
        repo_id = _named(user, body)
        self._check_may_change(user, repo_id)
        self.storage.delete_repo(repo_id)
        return JSONResponse({})

    async def move(self, request: Request, user: User) -> Response:
        body = await read_json(request, self.hub)
        return await in_thread(self._move, request, user, body)

    def _move(self, request: Request, user: User, body: Fields) -> Response:
        _check_is_model(body)
        source, target = body.get("fromRepo", str), body.get("toRepo", str)
        self._check_may_change(user, source)
        check_may_write(user, target.partition("/")[0])
        self.storage.move_repo(source, target)
        return JSONResponse({"url": f"{base_url(request)}/{target}"})

    async def settings(self, request: Request, own: Own) -> Response:
        body = await read_json(request, self.hub)
        return await in_thread(self._settings, request, own[0], body)

    def _settings(self, request: Request, repo: Repo, body: Fields) -> Response:
        private = _private(body)
        gated = body.maybe("gated", object)
        if gated not in (None, False, "auto", "manual"):
            raise BadRequestError("'gated' is 'auto', 'manual' or false.")
        if private is not None:
            self.storage.set_private(repo.id, private)
        if gated is not None:
            self.storage.set_gated(repo.id, gated is not False)
        return JSONResponse({"private": repo.private if private is None else private})

    def _check_may_change(self, user: User, repo_id: str) -> None:
        repo = self.storage.repo(repo_id)
        if not may_see(user, repo):
            raise MissingRepoError(repo_id)
        check_may_write(user, repo.owner)

    # Branches and tags

    async def create_branch(self, request: Request, own: Own) -> Response:
        body = await read_json(request, self.hub)
        return await in_thread(self._create_branch, request, own[0], body)

    def _create_branch(self, request: Request, repo: Repo, body: Fields) -> Response:
        start = body.get("startingPoint", str, "main")
        self.storage.create_branch(repo.id, param(request, "revision"), start)
        return JSONResponse({})

    def delete_branch(self, request: Request, own: Own) -> Response:
        self.storage.delete_branch(own[0].id, param(request, "revision"))
        return JSONResponse({})

    async def create_tag(self, request: Request, own: Own) -> Response:
        body = await read_json(request, self.hub)
        return await in_thread(self._create_tag, request, own[0], body)

    def _create_tag(self, request: Request, repo: Repo, body: Fields) -> Response:
        self.storage.tag(repo.id, body.get("tag", str), param(request, "revision"))
        return JSONResponse({})

    def delete_tag(self, request: Request, own: Own) -> Response:
        self.storage.delete_tag(own[0].id, param(request, "revision"))
        return JSONResponse({})


def _named(user: User, body: Fields) -> str:
    """The id of the repo that a body speaks of; without an owner, it is the user's own."""
    _check_is_model(body)
    owner = body.maybe("organization", str)
    return f"{user.name if owner is None else owner}/{body.get('name', str)}"


def _check_is_model(body: Fields) -> None:
    kind = body.get("type", str, "model")
    if kind != "model":
        raise InvalidNameError(f"This hub keeps models; it cannot make or change a {kind}.")


def _private(body: Fields) -> bool | None:
    """Whether a repo is to be private; None where the body does not say."""
    visibility = body.maybe("visibility", str)
    if visibility is None:
        return body.maybe("private", bool)
    if visibility not in ("public", "private"):
        raise BadRequestError(f"'visibility' is 'public' or 'private'; got {visibility!r}.")
    return visibility == "private"
