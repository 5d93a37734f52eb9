"""The hub's client, writing: every call does all of what it says, or nothing that can be seen."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from zoo.errors import AccessError, NotFoundError, UploadError, ZooError
from zoo.publishing.target import File, Sent, changed_on_the_way
from zoo.weights.client import Client
from zoo.weights.waiting import FIRST_ANSWER, progress_bar

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

NOTHING_HALF = "Nothing half-written is to be seen there."
_ADVICE: dict[int, tuple[type[ZooError], str]] = {
    401: (AccessError, "It needs a valid token: {how}."),
    403: (
        AccessError,
        "The token has to be one with the right to write, of a member of the repo's owner.",
    ),
    404: (NotFoundError, "The repo or revision is not there, or not for this token."),
    409: (UploadError, "It is there already; it may have been made just now. Publish again."),
    412: (
        UploadError,
        "The branch has changed since it was looked at, and that change was kept. Publish again, "
        "which compares with what is there now.",
    ),
    413: (UploadError, "It is larger than this server takes; max_shard_size= makes smaller files."),
    429: (UploadError, "It limits the rate of requests. Try again in a while."),
}
EVERY_ORG = "*"  # how a hub of zoo says that a token is good for all owners
_NOTHING_SENT = "Nothing was sent."
_LONGEST_SILENCE = 120.0  # seconds without a byte, until a hub that is written to is given up


class Writer(Client):
    """What zoo asks of one hub to change one repo.

    Raises:
        AccessError: no token, a wrong one, or one that may not write here.
        NotFoundError: the repo or revision is not there (any more).
        UploadError: a conflict, no network, a server that fails or refuses.
    """

    def check_may_write(self) -> None:
        """Ask whose token is sent, and refuse one that certainly may not write here.

        Whether a fine-grained token may, and what a hub thinks that does not tell of its users, is
        known only when it is written to.
        """
        if not self.endpoint.token():
            raise AccessError(
                f"To publish {self.repo} at {self.endpoint.url} takes a token, and there is none: "
                f"{self.endpoint.how_to_give_a_token}. {_NOTHING_SENT}"
            )
        try:
            who = self._ask("the owner of the token", self._api().whoami)
        except NotFoundError:
            return
        except AccessError as error:
            raise AccessError(
                f"{self.endpoint.url} does not know the token that was sent. {_NOTHING_SENT} To "
                f"publish {self.repo}, {self.endpoint.how_to_give_a_token}."
            ) from error
        token = (who.get("auth") or {}).get("accessToken") or {}
        owner = self.repo.partition("/")[0]
        owners = [who.get("name"), *(org.get("name") for org in who.get("orgs") or ())]
        if token.get("role") == "read":
            raise AccessError(
                f"The token of {owners[0]!r} at {self.endpoint.url} may read, and to publish "
                f"{self.repo} takes one with the right to write. {_NOTHING_SENT}"
            )
        if owner not in owners and EVERY_ORG not in owners:
            raise AccessError(
                f"The token at {self.endpoint.url} is of {owners[0]!r}, who may not publish for "
                f"{owner!r}; it may for {', '.join(filter(None, owners))}. {_NOTHING_SENT}"
            )

    def is_private(self) -> bool:
        """Whether the repo is hidden from the public."""
        info = self._ask(self.repo, lambda: self._api().model_info(self.repo, timeout=FIRST_ANSWER))
        return bool(info.private)

    def tags(self) -> list[str]:
        """The names of the repo's tags."""
        refs = self._ask(self.repo, lambda: self._api().list_repo_refs(self.repo))
        return [tag.name for tag in refs.tags]

    def create_repo(self, *, private: bool) -> None:
        with self._writing("The repo"):
            self._api().create_repo(self.repo, private=private or None)  # None: the owner's default

    def create_branch(self, name: str, commit: str) -> None:
        with self._writing(f"The branch {name!r}"):
            self._api().create_branch(self.repo, branch=name, revision=commit)

    def create_tag(self, name: str, commit: str) -> None:
        with self._writing(f"The tag {name!r}"):
            self._api().create_tag(self.repo, tag=name, revision=commit)

    def commit(
        self,
        files: Sequence[File],
        remove: Collection[str],
        *,
        branch: str,
        parent: str,
        message: str,
        create_pr: bool,
    ) -> Sent:
        """Add and remove files in one commit on top of `parent`, which the branch must be at."""
        from huggingface_hub import CommitOperationDelete

        api = self._api()
        where: dict[str, Any] = {"revision": branch, "create_pr": create_pr}
        deletions = [CommitOperationDelete(name) for name in sorted(remove)]
        with ExitStack() as opened, self._own_bars(), self._writing("The commit"):
            additions = []
            for file in files:
                addition = opened.enter_context(self._addition(file))
                if addition.upload_info.sha256.hex() != file.sha256:
                    raise changed_on_the_way(file, self.repo)
                # One by one: in the threads of several at once, the guards of `Client` are not on.
                api.preupload_lfs_files(self.repo, [addition], free_memory=False, **where)
                additions.append(addition)
            made = api.create_commit(
                self.repo,
                [*additions, *deletions],
                commit_message=message,
                parent_commit=parent,
                **where,
            )
        return Sent(commit=made.oid, url=made.pr_url or None)

    def _api(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint.url, token=self.endpoint.token())

    @contextmanager
    def _addition(self, file: File) -> Iterator[CommitOperationAdd]:
        """What the client sends: an open file, which goes by LFS, since it takes Xet for a path.

        Only the public hub is trusted to name the place where Xet stores things.
        """
        from huggingface_hub import CommitOperationAdd

        if self.endpoint.is_public:
            yield CommitOperationAdd(file.name, str(file.path))
            return
        bar = progress_bar()(total=file.size, desc=file.name, unit="B", unit_scale=True)
        with bar, _Watched(io.FileIO(file.path)) as content:
            addition = CommitOperationAdd(file.name, content)
            content.bar = bar  # only now: the client has read the file once, to hash it
            yield addition

    def _own_bars(self) -> AbstractContextManager[Any]:
        """Silence the client's bars, which also come where nobody looks, but for those of Xet."""
        from huggingface_hub import constants
        from huggingface_hub.utils import disable_progress_bars

        asked_for = constants.HF_HUB_DISABLE_PROGRESS_BARS is False
        return nullcontext() if self.endpoint.is_public or asked_for else disable_progress_bars()

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        """Turn what may go wrong with a request that writes into zoo's errors."""
        from huggingface_hub import get_session

        with self._guarded():
            session = get_session()
            before = session.timeout
            session.timeout = _LONGEST_SILENCE  # the client would wait for ever
            try:
                yield
            except ZooError:
                raise
            except Exception as error:
                raise self._failure(error, what) from error
            finally:
                session.timeout = before

    def _failure(self, error: BaseException, what: str) -> ZooError:
        """The error of ours for one of the client's. Any other is raised again, as it is."""
        from huggingface_hub import errors as theirs

        while isinstance(error, RuntimeError) and error.__cause__:
            error = error.__cause__  # "Error while uploading ...", whatever happened
        if isinstance(error, ZooError):
            return error
        if isinstance(error, theirs.HfHubHTTPError):
            return self._refused(error, what)
        # Of ValueError: front matter that the hub does not take, and answers that make no sense.
        if isinstance(error, (theirs.HTTPError, OSError, ValueError, KeyError)):
            return UploadError(
                f"{what} could not be made at {self.endpoint.url}: "
                f"{str(error) or type(error).__name__}. {NOTHING_HALF} Check the network and the "
                "endpoint (HF_ENDPOINT), then publish again; what arrived already is not sent "
                "twice."
            )
        raise error

    def _refused(self, error: Any, what: str) -> ZooError:
        """The error of ours for a status that the server answered."""
        status = error.response.status_code
        kind, advice = _ADVICE.get(status, (UploadError, "Try again in a while."))
        advice = advice.format(how=self.endpoint.how_to_give_a_token)
        says = f" The server says: {error.server_message}" if error.server_message else ""
        return kind(
            f"{self.endpoint.url} refuses {what[0].lower()}{what[1:]} of {self.repo} (status "
            f"{status}). {NOTHING_HALF} {advice}{says}"
        )


class _Watched(io.BufferedReader):
    """A file whose reading moves a progress bar, once `bar` is set."""

    bar: Any = None

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        if self.bar is not None:
            self.bar.update(self.tell() - self.bar.n)  # back, where it is read once more
        return content
