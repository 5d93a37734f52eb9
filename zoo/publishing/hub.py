"""A hub repo as a target: one commit, made on the very state that was looked at."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

from zoo.errors import NotFoundError, OfflineError, UploadError, ZooError
from zoo.publishing.report import Check
from zoo.publishing.target import (
    CONFIG,
    README,
    File,
    Missing,
    Sent,
    There,
    changed_on_the_way,
    text_of,
)
from zoo.publishing.writer import Writer
from zoo.weights.client import Listing, RemoteFile
from zoo.weights.endpoint import Endpoint
from zoo.weights.handle import Source
from zoo.weights.hub import open_repository


class HubTarget:
    """A branch of a hub repo; each is made if it is not there.

    Args:
        repo: `org/name`.
        branch: for the commit; a new one starts where `main` is.
        source: endpoint and token.
        private: makes a new repo private, and insists that one that is there be so.
        message: of the commit.
        create_pr: propose the commit in a pull request, and leave the branch as it is.
        tag: name to give to the commit.
    """

    def __init__(
        self,
        repo: str,
        branch: str,
        source: Source,
        *,
        private: bool = False,
        message: str = "Publish with zoo",
        create_pr: bool = False,
        tag: str | None = None,
    ) -> None:
        endpoint = Endpoint.of(source)
        self.address = repo
        self.name = f"{repo}@{branch} at {endpoint.url}"
        self._branch, self._source = branch, source
        self._private, self._message, self._create_pr, self._tag = private, message, create_pr, tag
        self._writer = Writer(endpoint, repo)

    def check_may_write(self) -> None:
        if self._create_pr:
            return  # which others may propose, too
        self._must_be_online()
        self._writer.check_may_write()

    def look(self) -> There:
        """What is at the branch; at `main` for a branch that is not there, nothing for a repo.

        Raises:
            OfflineError: offline.
            ZooError: the hub cannot be asked.
        """
        self._must_be_online()
        listing, missing = self._listing()
        checks = []
        if self._private and missing != "repo":
            checks.append(self._is_hidden())
        if self._tag and missing != "repo":
            checks.append(self._is_free(self._tag))
        return There(
            commit=listing.commit or None,
            files=listing.files,
            config=self._text(CONFIG, listing),
            readme=self._text(README, listing),
            checks=tuple(checks),
            missing=missing,
        )

    def send(self, files: Sequence[File], remove: Collection[str], there: There) -> Sent:
        parent = there.commit or self._make_repo()
        if there.missing and self._branch != "main":
            self._writer.create_branch(self._branch, parent)
        if _is_there(files, remove, there.files):
            sent = Sent(commit=parent)
        else:
            new = [file for file in files if not file.is_same(there.files.get(file.name))]
            sent = self._commit(new, remove, parent)
            self._verify(files, sent)
        if self._tag:
            self._put_tag(self._tag, sent)
        place = "" if self._branch == "main" else f"/tree/{quote(self._branch)}"
        page = f"{self._writer.endpoint.url}/{self.address}{place}"
        return replace(sent, url=sent.url or page)

    def _must_be_online(self) -> None:
        if self._writer.endpoint.offline:
            raise OfflineError(
                f"Offline, so that nothing can be published to {self.name}. Allow the network "
                "(HF_HUB_OFFLINE=0), or publish to a folder."
            )

    def _listing(self) -> tuple[Listing, Missing]:
        """The files that the commit will be made on, and what has to be made before it."""
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        try:
            return self._writer.list_files(self._branch), None
        except NotFoundError as error:
            if isinstance(error.__cause__, RepositoryNotFoundError):
                return Listing("", {}), "repo"
            if not isinstance(error.__cause__, RevisionNotFoundError):
                raise
        return self._writer.list_files("main"), "branch"

    def _text(self, name: str, listing: Listing) -> str | None:
        if name not in listing.files:
            return None
        path = open_repository(self.address, self._source, listing.commit).file(name)
        return None if path is None else text_of(path)

    def _is_hidden(self) -> Check:
        hidden = self._writer.is_private()
        found = (
            "the repo is private"
            if hidden
            else "the repo is there and public: make it private in its settings, or drop private"
        )
        return Check(name="private", passed=hidden, found=found)

    def _is_free(self, tag: str) -> Check:
        taken = tag in self._writer.tags()
        found = f"{tag!r} is taken: tags do not move, name another" if taken else f"{tag!r} is free"
        return Check(name="tag", passed=not taken, found=found)

    def _make_repo(self) -> str:
        """Make the repo. Returns its first commit, which holds nothing."""
        self._writer.create_repo(private=self._private)
        return self._writer.list_files("main").commit

    def _commit(self, files: Sequence[File], remove: Collection[str], parent: str) -> Sent:
        try:
            return self._writer.commit(
                files,
                remove,
                branch=self._branch,
                parent=parent,
                message=self._message,
                create_pr=self._create_pr,
            )
        except UploadError:
            landed = None if self._create_pr else self._landed(files, remove, parent)
            if landed is None:
                raise
            return landed

    def _landed(self, files: Sequence[File], remove: Collection[str], parent: str) -> Sent | None:
        """The commit, if it was made and only the answer was lost on the way."""
        try:
            now = self._writer.list_files(self._branch)
        except ZooError:
            return None
        made = now.commit != parent and _is_there(files, remove, now.files)
        return Sent(commit=now.commit) if made else None

    def _verify(self, files: Sequence[File], sent: Sent) -> None:
        """Compare the hashes that the hub now gives with those of the files."""
        there = self._writer.list_files(sent.commit or self._branch).files
        for file in files:
            if not file.is_same(there.get(file.name)):
                raise changed_on_the_way(file, self.name)

    def _put_tag(self, tag: str, sent: Sent) -> None:
        try:
            self._writer.create_tag(tag, sent.commit or self._branch)
        except ZooError as error:
            raise type(error)(
                f"{self.name} has the new commit {sent.commit}, but without its tag. {error}"
            ) from error


def _is_there(
    files: Sequence[File], remove: Collection[str], there: Mapping[str, RemoteFile]
) -> bool:
    return there.keys().isdisjoint(remove) and all(f.is_same(there.get(f.name)) for f in files)
