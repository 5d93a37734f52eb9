"""Pull requests, as far as uploads need them: opened, listed, closed and merged.

A pull request is a branch with a number and a title. There is no talk about it.
"""

from __future__ import annotations

import re
import uuid

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zoo.hub import views
from zoo.hub.access import User
from zoo.hub.errors import BadRequestError
from zoo.hub.objects import Repo
from zoo.hub.records import now
from zoo.hub.web import Fields, Hub, Own, in_thread, param, read_json, route

PAGE = 50  # pull requests of a listing
_PAGE = re.compile("[0-9]{1,6}")


class Pulls:
    """The routes of pull requests."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.storage = hub.storage

    def routes(self) -> list[Route]:
        """Every address, and the client's calls that need it."""
        seen, own = self.hub.repo, self.hub.repo_to_write
        pulls = "/api/models/{org}/{name}/discussions"
        return [
            route("GET", pulls, seen, self.listing),  # get_repo_discussions
            route("POST", pulls, own, self.open),  # create_pull_request, hf upload --create-pr
            route("GET", pulls + "/{number}", seen, self.details),  # get_discussion_details
            route("POST", pulls + "/{number}/status", own, self.set_status),  # closed, open again
            route("POST", pulls + "/{number}/merge", own, self.merge),  # merge_pull_request
        ]

    def listing(self, request: Request, repo: Repo) -> Response:
        query = request.query_params
        page = query.get("p", "0")
        if not _PAGE.fullmatch(page):
            raise BadRequestError(f"p={page!r} is no number of a page.")
        found = [
            pull
            for pull in self.storage.pulls(repo)
            if query.get("author") in (None, pull.author)
            and query.get("type") in (None, "all", "pull_request")
            # the protocol has two states here: what is merged is closed
            and query.get("status") in (None, "all", "open" if pull.status == "open" else "closed")
        ]
        start = int(page) * PAGE
        lines = [views.pull(repo, pull) for pull in found[start : start + PAGE]]
        return JSONResponse({"discussions": lines, "count": len(found), "start": start})

    async def open(self, request: Request, own: Own) -> Response:
        body = await read_json(request, self.hub)
        return await in_thread(self._open, *own, body)

    def _open(self, repo: Repo, user: User, body: Fields) -> Response:
        if not body.get("pullRequest", bool, False):
            raise BadRequestError("This hub has pull requests, and no other discussions.")
        pull = self.storage.open_pull(repo.id, body.get("title", str), user.name)
        return JSONResponse({"num": pull.number, "pullRequest": True})

    def details(self, request: Request, repo: Repo) -> Response:
        pull = self.storage.pull(repo, _number(request))
        merge = {"mergeCommitId": repo.pulls[pull.revision]} if pull.merged else {}
        return JSONResponse(
            {
                **views.pull(repo, pull),
                "changes": {"base": "refs/heads/main", **merge},
                "filesWithConflicts": [],
                "events": [],
            }
        )

    async def set_status(self, request: Request, own: Own) -> Response:
        body = await read_json(request, self.hub)
        return await in_thread(self._set_status, request, *own, body)

    def _set_status(self, request: Request, repo: Repo, user: User, body: Fields) -> Response:
        status = body.get("status", str)
        if status not in ("open", "closed"):
            raise BadRequestError("'status' is 'open' or 'closed'.")
        self.storage.close_pull(repo.id, _number(request), status == "closed")
        event = {
            "id": uuid.uuid4().hex,
            "type": "status-change",
            "createdAt": now(),
            "author": {"name": user.name},
            "data": {"status": status},
        }
        return JSONResponse({"newStatus": event})

    def merge(self, request: Request, own: Own) -> Response:
        self.storage.merge(own[0].id, _number(request))
        return JSONResponse({})


def _number(request: Request) -> int:
    number = param(request, "number")
    if not (number.isdecimal() and number.isascii() and len(number) < 10):
        raise BadRequestError(f"{number[:100]!r} is no number of a pull request.")
    return int(number)
