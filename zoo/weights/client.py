"""The Hugging Face hub's client, held to zoo's promises: bounded waits, errors, tokens."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from zoo.errors import (
    AccessError,
    DownloadError,
    HandleError,
    NotFoundError,
    OfflineError,
    ZooError,
    did_you_mean,
)
from zoo.weights.disk import check_room, disk_error
from zoo.weights.endpoint import Endpoint, origin
from zoo.weights.waiting import (
    BUSY,
    FIRST_ANSWER,
    LONGEST_PAUSE,
    PAUSES,
    answered_within,
    progress_bar,
    requested_pause,
)

T = TypeVar("T")

_MOST_PULL_REQUESTS = 100  # of one author
_HIGHER_LIMITS = "With a token the limits are higher (HF_TOKEN, `hf auth login`)."


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub describes it, where it does.

    Attributes:
        size: in bytes.
        etag: sha256 of a large file (LFS), git's sha1 of a small one.
    """

    size: int | None
    etag: str | None


@dataclass(frozen=True)
class Listing:
    """All the files of a repo at one commit, by name."""

    commit: str
    files: Mapping[str, RemoteFile]


@dataclass(frozen=True)
class PullRequest:
    """A pull request as the hub describes it; `status` is `draft`, `open`, `closed` or `merged`."""

    number: int
    title: str
    author: str
    status: str


class Client:
    """What zoo asks of one hub about one repo. Every method raises zoo's errors alone.

    Raises:
        NotFoundError: no such repo, revision or file.
        AccessError: the repo is closed to this token, or to no token.
        DownloadError: no network, a server that fails, limits the rate or breaks off.
        DiskError: a full disk, or a cache that cannot be written.
    """

    def __init__(self, endpoint: Endpoint, repo: str) -> None:
        self.endpoint = endpoint
        self.repo = repo

    def list_files(self, revision: str) -> Listing:
        """The commit that a branch, tag or commit names, and its files: one request."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RevisionNotFoundError

        api = HfApi(endpoint=self.endpoint.url, token=self.endpoint.token())
        try:
            info = self._ask(
                f"{self.repo}@{revision}",
                lambda: api.model_info(
                    self.repo, revision=revision, files_metadata=True, timeout=FIRST_ANSWER
                ),
            )
        except NotFoundError as error:
            if not isinstance(error.__cause__, RevisionNotFoundError):
                raise
            raise self._no_revision(api, revision) from error.__cause__
        if not info.sha:
            raise DownloadError(f"{self.endpoint.url} names no commit for {self.repo}@{revision}.")
        files = {
            file.rfilename: RemoteFile(file.size, file.lfs.sha256 if file.lfs else file.blob_id)
            for file in info.siblings or ()
        }
        return Listing(info.sha, files)

    def pull_requests(self, author: str) -> list[PullRequest]:
        """The open pull requests of an author; none on a hub that does not list them."""
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.endpoint.url, token=self.endpoint.token())
        kind: Any = {"discussion_type": "pull_request", "discussion_status": "open"}

        def ask() -> list[PullRequest]:
            found = api.get_repo_discussions(self.repo, author=author, **kind)
            try:
                return [
                    PullRequest(int(d.num), str(d.title), str(d.author), str(d.status))
                    for d in islice(found, _MOST_PULL_REQUESTS)
                    if d.is_pull_request
                ]
            except (LookupError, AttributeError, TypeError, json.JSONDecodeError):
                return []

        return self._ask(f"The list of pull requests of {self.repo}", ask)

    def download(self, commit: str, name: str) -> Path:
        """Fetch one file at a commit into the cache. Its content is not checked here."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

        what = f"{name} of {self.repo}"
        url, token = self.endpoint.url, self.endpoint.token()
        address = hf_hub_url(self.repo, name, revision=commit, endpoint=url)
        # The client takes half a minute to report a hub that is down, so it is asked first.
        metadata = self._ask(
            what, lambda: get_hf_file_metadata(address, token=token, timeout=FIRST_ANSWER)
        )
        check_room(what, metadata.size, self.endpoint.cache)
        for last in (False, True):
            try:
                with self._guarded():
                    self._sweep()
                    path = hf_hub_download(
                        self.repo,
                        name,
                        revision=commit,
                        endpoint=url,
                        token=token,
                        cache_dir=self.endpoint.cache,
                        tqdm_class=progress_bar(),
                    )
                    return Path(path)
            except ZooError:
                raise
            except Exception as error:
                found = self._translated(error, what)
                if last or not isinstance(found, DownloadError):
                    raise found from error
                time.sleep(PAUSES[-1])
        raise AssertionError("the last attempt returns or raises")

    def _ask(self, what: str, request: Callable[[], T]) -> T:
        """One small request, asked again while the server is busy."""
        from huggingface_hub.errors import HfHubHTTPError

        for pause in (*PAUSES, None):
            try:
                with self._guarded():
                    return answered_within(FIRST_ANSWER, request)
            except ZooError:
                raise
            except Exception as error:
                status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
                if status not in BUSY or pause is None:
                    raise self._translated(error, what) from error
                asked = requested_pause(error.response.headers)  # type: ignore[attr-defined]
            time.sleep(pause if asked is None else asked)
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Run calls of the client under zoo's promises."""
        with _client_settings(self.endpoint):
            _install_guards()
            mark = _guarded_origin.set(origin(self.endpoint.url))
            try:
                yield
            finally:
                _guarded_origin.reset(mark)

    def _sweep(self) -> None:
        """Remove what killed downloads of this repo left, which the client would leave for ever.

        A file whose lock another process holds is still being written.
        """
        from huggingface_hub.utils import WeakFileLock

        folder = self.endpoint.cache / repo_folder(self.repo)
        for partial in folder.glob("blobs/*.incomplete"):
            lock = self.endpoint.cache / ".locks" / folder.name
            lock.mkdir(parents=True, exist_ok=True)
            try:
                with WeakFileLock(lock / f"{partial.name.partition('.')[0]}.lock", timeout=0.05):
                    partial.unlink(missing_ok=True)
            except TimeoutError:
                continue

    def _no_revision(self, api: Any, revision: str) -> NotFoundError:
        try:
            refs = self._ask(self.repo, lambda: api.list_repo_refs(self.repo))
            names = [ref.name for ref in (*refs.branches, *refs.tags)]
        except ZooError:
            names = []
        there = f" It has: {', '.join(names[:10])}." if names else ""
        return NotFoundError(
            f"{self.repo} at {self.endpoint.url} has no branch, tag or commit {revision!r}."
            f"{did_you_mean(revision, names)}{there}"
        )

    def _translated(self, error: BaseException, what: str) -> ZooError:
        """The error of ours for one of the client's. Any other is raised again, as it is."""
        from huggingface_hub import errors as theirs

        if isinstance(error, theirs.LocalEntryNotFoundError) and error.__cause__:
            error = error.__cause__  # "check your connection", whatever happened
        if isinstance(error, theirs.HfHubHTTPError):
            return self._refusal(error, what)
        if isinstance(error, theirs.HFValidationError):
            return HandleError(f"{self.repo!r} is no name of a hub repo: {error}")
        if isinstance(error, theirs.OfflineModeIsEnabled):
            return OfflineError(f"{what} cannot be fetched: {error}")
        if isinstance(error, OSError) and (found := disk_error(error, self.endpoint.cache)):
            return found
        # Of OSError, a size that differs and a folder that was taken away are left.
        known = (
            theirs.HTTPError,
            theirs.EntryNotFoundError,
            OSError,
            json.JSONDecodeError,
            KeyError,
        )
        if isinstance(error, known):
            return DownloadError(
                f"{what} could not be fetched from {self.endpoint.url}: "
                f"{str(error) or type(error).__name__}. Nothing half-written was left behind. "
                "Check the network, the proxy settings (HTTPS_PROXY) and the endpoint "
                "(HF_ENDPOINT), then try again. Models in the cache load without a network."
            )
        raise error

    def _refusal(self, error: Any, what: str) -> ZooError:
        """The error of ours for a status that the server answered."""
        from huggingface_hub import errors as theirs

        status, where = error.response.status_code, f"{self.endpoint.url}/{self.repo}"
        says = f" The server says: {error.server_message}" if error.server_message else ""
        how = self.endpoint.how_to_give_a_token
        sent = "the token that was sent" if self.endpoint.token() else "no token, and none was sent"
        if isinstance(error, theirs.GatedRepoError):
            return AccessError(
                f"{what} is open only to those who accepted its terms at {where}, which is not so "
                f"for {sent}. Accept them there, then {how}.{says}"
            )
        if status in (401, 403):
            return AccessError(
                f"{where} is closed to {sent}, or does not exist ({status}). Check the name; for a "
                f"private repo {how}.{says}"
            )
        if isinstance(error, theirs.RepositoryNotFoundError):
            return NotFoundError(
                f"No repo {where} (404). Check the name; if it is private, {how}.{says}"
            )
        if status == 404:
            return NotFoundError(f"{what} is not at {self.endpoint.url} (404).{says}")
        if status == 429:
            return DownloadError(
                f"{self.endpoint.url} limits the rate of requests and still refused {what} after "
                f"{len(PAUSES)} more attempts. Try again in a while. {_HIGHER_LIMITS}{says}"
            )
        return DownloadError(
            f"{self.endpoint.url} failed to answer for {what} (status {status}). Try again in a "
            f"while.{says}"
        )


def repo_folder(repo: str) -> str:
    """The name of a repo's folder in the Hugging Face cache."""
    return "--".join(("models", *repo.split("/")))


_guarded_origin: ContextVar[tuple[str, str, int] | None] = ContextVar("guarded", default=None)
_settings_lock = threading.RLock()


@contextmanager
def _client_settings(endpoint: Endpoint) -> Iterator[None]:
    """Set what the client reads from the environment only once, when it is imported.

    Xet is off towards other hubs than the public one, since the client follows any storage address
    that such a server names; telemetry is, since it asks the public hub about every call.
    """
    from huggingface_hub import constants

    settings: dict[str, bool] = {"HF_HUB_OFFLINE": False}
    if not endpoint.is_public:
        settings |= {"HF_HUB_DISABLE_XET": True, "HF_HUB_DISABLE_TELEMETRY": True}
    with _settings_lock:
        before = {name: getattr(constants, name) for name in settings}
        try:
            for name, value in settings.items():
                setattr(constants, name, value)
            yield
        finally:
            for name, value in before.items():
                setattr(constants, name, value)


def _install_guards() -> None:
    """Watch the client's session. The guards do nothing outside `Client._guarded`."""
    from huggingface_hub import get_session

    session = get_session()
    hooks = session.event_hooks
    if _keep_token_home not in hooks["request"]:
        session.event_hooks = {
            "request": [*hooks["request"], _keep_token_home],
            "response": [*hooks["response"], _refuse_long_pause],
        }


def _keep_token_home(request: Any) -> None:
    """The client forwards a token when any hub redirects to the public one. zoo does not."""
    home = _guarded_origin.get()
    if home and origin(str(request.url)) != home:
        request.headers.pop("authorization", None)


def _refuse_long_pause(response: Any) -> None:
    """The client sleeps for as long as a server asks. zoo says so instead."""
    if _guarded_origin.get() is None or response.status_code not in BUSY:
        return
    asked = requested_pause(response.headers)
    if asked is not None and asked > LONGEST_PAUSE:
        raise DownloadError(
            f"{response.request.url.host} asks to wait {asked:.0f} s before the next request "
            f"(status {response.status_code}). Nothing half-written was left behind. Try again "
            f"then. {_HIGHER_LIMITS}"
        )
