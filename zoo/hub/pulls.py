"""Pull requests, as far as uploads need them: opened, looked at, and merged.

A pull request is a branch with a number and a title. There is no talk about it.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zoo.hub.errors import BadRequestError
from zoo.hub.web import Fields, Hub, in_thread, param, read_json, route


class Pulls:
    """The routes of pull requests."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.storage = hub.storage

    def routes(self) -> list[Route]:
        """Every address, and the client's calls that need it."""
        pulls = "/api/models/{org}/{name}/discussions"
        return [
            route("POST", pulls, self.open),  # create_pull_request, hf upload --create-pr
            route("GET", pulls + "/{number}", self.details),  # get_discussion_details
            route("POST", pulls + "/{number}/merge", self.merge),  # merge_pull_request
        ]

    async def open(self, request: Request) -> Response:
        body = await read_json(request, self.hub)
        return await in_thread(self._open, request, body)

    def _open(self, request: Request, body: Fields) -> Response:
        repo, user = self.hub.repo_to_write(request)
        if not body.get("pullRequest", bool, False):
            raise BadRequestError("This hub has pull requests, and no other discussions.")
        pull = self.storage.open_pull(repo.id, body.get("title", str), user.name)
        return JSONResponse({"num": pull.number, "pullRequest": True})

    def details(self, request: Request) -> Response:
        repo = self.hub.repo(request)
        pull = self.storage.pull(repo, _number(request))
        head = repo.pulls[pull.revision]
        merge = {"mergeCommitId": head} if pull.merged else {}
        return JSONResponse(
            {
                "num": pull.number,
                "title": pull.title,
                "author": {"name": pull.author},
                "createdAt": pull.created,
                "status": "merged" if pull.merged else "open",
                "repo": {"name": repo.id, "type": "model"},
                "isPullRequest": True,
                "changes": {"base": "refs/heads/main", **merge},
                "filesWithConflicts": [],
                "events": [],
            }
        )

    def merge(self, request: Request) -> Response:
        repo, _ = self.hub.repo_to_write(request)
        self.storage.merge(repo.id, _number(request))
        return JSONResponse({})


def _number(request: Request) -> int:
    number = param(request, "number")
    if not (number.isdecimal() and number.isascii() and len(number) < 10):
        raise BadRequestError(f"{number[:100]!r} is no number of a pull request.")
    return int(number)
