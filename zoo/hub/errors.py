"""What the hub refuses, and the status and code that the protocol has for each refusal.

The client turns the codes `RepoNotFound`, `RevisionNotFound`, `EntryNotFound` and `GatedRepo` into
errors of its own; any other code is for people.
"""

from __future__ import annotations

from typing import ClassVar

from zoo.errors import AccessError, DiskError, IntegrityError, NotFoundError, ZooError


class HubError(ZooError):
    """A request that is not done. Nothing of it is kept."""

    status: int = 400
    code: ClassVar[str] = "BadRequest"
    commit: str | None = None  # the commit in which something was looked for


class MissingError(HubError, NotFoundError):
    """Something that the storage has not."""

    status = 404


class MissingRepoError(MissingError):
    """A repo that is not there, or not for this reader."""

    code = "RepoNotFound"

    def __init__(self, repo_id: str):
        super().__init__(f"Repository {repo_id!r} not found.")


class MissingRevisionError(MissingError):
    """A branch, tag or commit that the repo has not."""

    code = "RevisionNotFound"


class MissingEntryError(MissingError):
    """A file or folder that the commit has not."""

    code = "EntryNotFound"

    def __init__(self, message: str, commit: str):
        super().__init__(message)
        self.commit = commit


class InvalidNameError(HubError, ValueError):
    """A repo id, path, branch or tag that cannot be stored."""

    code = "InvalidName"


class BadRequestError(HubError, ValueError):
    """A request that is not what the protocol has in its place."""


class ContentError(HubError, IntegrityError):
    """Content whose hash or size is not the announced one, or that has not come at all."""

    code = "ContentMismatch"


class LimitError(HubError, ValueError):
    """More bytes or files than this hub takes."""

    status = 413
    code = "TooLarge"


class TakenError(HubError, FileExistsError):
    """A name that is in use already."""

    status = 409
    code = "AlreadyExists"


class StaleParentError(HubError):
    """A commit made for another state of the branch than the one that it has now."""

    status = 412
    code = "StaleParent"


class UnauthorizedError(HubError, AccessError):
    """No token, or one that the hub does not know."""

    status = 401
    code = "Unauthorized"


class ForbiddenError(HubError, AccessError):
    """A token or signature that does not allow what is asked."""

    status = 403
    code = "Forbidden"


class GatedRepoError(ForbiddenError):
    """A repo whose files are for the members of its owner."""

    code = "GatedRepo"

    def __init__(self, message: str, *, signed_in: bool):
        super().__init__(message)
        self.status = 403 if signed_in else 401


class FullDiskError(HubError, DiskError):
    """No space left for what was sent."""

    status = 507
    code = "DiskFull"

    def __init__(self) -> None:
        super().__init__("The hub's disk is full. Nothing of this request was stored.")
