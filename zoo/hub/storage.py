"""Repos in a folder: contents by their sha256, and everything else in one SQLite file.

    blobs/, incoming/      see `zoo.hub.blobs`
    hub.sqlite3            repos, branches, tags, commits and which content each file has

A commit is one transaction that refers only to contents that are whole on the disk: whenever a
process stops, what was committed is there and nothing else is to be seen. Any number of threads
and processes may use one folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from zoo.hub import blobs as contents
from zoo.hub import database as db
from zoo.hub import records
from zoo.hub.assembly import Assembly
from zoo.hub.blobs import BlobFolder
from zoo.hub.errors import ContentError, InvalidNameError, StaleParentError, TakenError
from zoo.hub.objects import (
    Blob,
    Change,
    Commit,
    LogEntry,
    Pull,
    Put,
    Repo,
    changed,
    check_path,
    check_ref,
    check_repo_id,
    git_oid,
    is_lfs,
)

GRACE = 24 * 3600.0  # seconds that a content may wait for its commit
_NEW_SPACE = func.lower(func.hex(func.randomblob(16)))


@dataclass(frozen=True)
class Garbage:
    """What `Storage.gc` removed, or would remove: contents and broken-off uploads."""

    files: int
    bytes: int


class Storage:
    """A folder of repos.

    Args:
        root: the folder; made when it is first looked into.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.blobs = BlobFolder(self.root)

    @cached_property
    def _db(self) -> db.Database:
        return db.Database(self.root)

    def open(self) -> None:
        """Make the folder and the database, if they are missing: later, somebody would wait."""
        with self._db.read():
            pass

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()

    # Reading

    def repos(self) -> list[Repo]:
        """Every repo, sorted by id."""
        with self._db.read() as connection:
            rows = connection.execute(select(db.repos).order_by(db.repos.c.id)).all()
            return [records.read_repo(connection, row) for row in rows]

    def repo(self, repo_id: str) -> Repo:
        """The repo `org/name`. Raises `MissingRepoError`."""
        with self._db.read() as connection:
            return records.read_repo(connection, records.repo_row(connection, repo_id))

    def commit_at(self, repo: Repo, revision: str) -> Commit:
        """The commit that a branch, a tag or a commit id names. Raises `MissingRevisionError`."""
        with self._db.read() as connection:
            return records.commit_at(connection, repo, revision)

    def history(self, repo: Repo, commit: LogEntry) -> Iterator[LogEntry]:
        """`commit` and its ancestors, newest first."""
        entry: LogEntry | None = commit
        while entry:
            yield entry
            parent = entry.parent or ""
            with self._db.read() as connection:
                key = records.repo_row(connection, repo.id).key
                entry = records.log_entry(connection, key, parent)

    def states(self, repo: Repo, commit: LogEntry) -> Iterator[Commit]:
        """What `history` gives, with the files of each commit."""
        return (self.commit_at(repo, entry.id) for entry in self.history(repo, commit))

    def blob_path(self, blob: Blob) -> Path:
        """The file that holds the content."""
        return self.blobs.path(blob.sha256)

    # Contents

    def received(self, repo_id: str, sha256: str) -> None:
        """Note that all bytes of a stored content came in for a repo, which may name it now."""
        with self._db.write() as connection:
            values = {"repo": records.repo_row(connection, repo_id).key, "sha256": sha256}
            now = {"received": int(time.time())}
            statement = upsert(db.uploads).values(**values, **now)
            connection.execute(
                statement.on_conflict_do_update(index_elements=["repo", "sha256"], set_=now)
            )

    def came_in(self, repo_id: str, sha256: str, size: int) -> bool:
        """Whether all bytes of a content of this size came in for a repo."""
        with self._db.read() as connection:
            own = db.uploads.c.repo == records.repo_row(connection, repo_id).key
            came = select(db.uploads.c.received).where(own, db.uploads.c.sha256 == sha256)
            found = connection.execute(came).one_or_none()
        return found is not None and self.blobs.size(sha256) == size

    def spare(self, repo_id: str, sha256: str) -> None:
        """Keep a content that came in for a repo from gc for a while longer."""
        with self._db.write() as connection:
            own = db.uploads.c.repo == records.repo_row(connection, repo_id).key
            where = (own, db.uploads.c.sha256 == sha256)
            connection.execute(update(db.uploads).where(*where).values(received=int(time.time())))

    def content(self, repo_id: str, sha256: str, may_read: Callable[[Repo], bool]) -> Blob | None:
        """The LFS object with this sha256, if it came in for this repo or is in one to be read.

        To know a hash is not to have the content: that of a private or gated repo is not handed
        out, nor is it told that it is here.
        """
        size = self.blobs.size(sha256)
        if size is None:
            return None
        if self.came_in(repo_id, sha256, size):
            return Blob.of_lfs(sha256, size)
        used = select(db.commits.c.repo).join(db.files).where(db.files.c.sha256 == sha256)
        with self._db.read() as connection:
            rows = connection.execute(select(db.repos).where(db.repos.c.key.in_(used))).all()
            found = any(may_read(records.read_repo(connection, row)) for row in rows)
        return Blob.of_lfs(sha256, size) if found else None

    def add(self, path: str, source: bytes | Path, lfs: bool | None = None) -> Put:
        """Store the content of a file to be committed at `path`.

        `lfs` says whether it is kept as an LFS object; by default, where `is_lfs` has it so.
        """
        sha256, size = self.blobs.add(source)
        if lfs if lfs is not None else is_lfs(path, size):
            return Put(path, Blob.of_lfs(sha256, size))
        oid = git_oid(self.blobs.path(sha256).read_bytes())
        return Put(path, Blob(sha256=sha256, size=size, oid=oid, lfs=False))

    def assembly(self, space: str) -> Assembly:
        """Where uploads by Xet to the repo whose space this is are put together."""
        return Assembly(self._db, self.blobs, space)

    def space(self, repo_id: str) -> str:
        """The space of a repo, as `zoo.hub.assembly` has it."""
        with self._db.read() as connection:
            return records.repo_row(connection, repo_id).space

    # Repos

    def create_repo(self, repo_id: str, *, private: bool = False, author: str = "zoo") -> None:
        """Make an empty repo, with one commit on `main`. Raises `TakenError`."""
        with self._db.write() as connection:
            row = records.new_repo(connection, repo_id, private=private)
            first = records.write_commit(connection, row, None, {}, "Initial commit", author)
            records.set_ref(connection, row, "branch", "main", first)

    def delete_repo(self, repo_id: str) -> None:
        """Remove a repo with its history. Its contents stay until `gc`."""
        with self._db.write() as connection:
            key = records.repo_row(connection, repo_id).key
            connection.execute(delete(db.repos).where(db.repos.c.key == key))

    def move_repo(self, repo_id: str, new_id: str) -> None:
        """Give a repo another owner or name. Raises `TakenError`."""
        with self._db.write() as connection:
            key = records.repo_row(connection, repo_id).key
            records.check_free(connection, check_repo_id(new_id))
            connection.execute(update(db.repos).where(db.repos.c.key == key).values(id=new_id))

    def set_private(self, repo_id: str, private: bool = True) -> None:
        """Hide the repo from all but the members of its owner, or show it."""
        self._update(repo_id, private=private)

    def set_gated(self, repo_id: str, gated: bool = True) -> None:
        """Keep the repo's files from all but the members of its owner, or open them."""
        self._update(repo_id, gated=gated)

    def _update(self, repo_id: str, **values: bool) -> None:
        with self._db.write() as connection:
            key = records.repo_row(connection, repo_id).key
            connection.execute(update(db.repos).where(db.repos.c.key == key).values(**values))

    # Commits

    def commit(
        self,
        repo_id: str,
        files: Mapping[str, bytes | Path],
        branch: str = "main",
        message: str = "Upload files",
        author: str = "zoo",
    ) -> str:
        """Put files into a repo, on top of what the branch holds.

        A new repo starts on `main`; a new branch starts where `main` is.

        Args:
            repo_id: `org/name`; made when it is new.
            files: content, or the file to copy it from, by path in the repo.

        Returns:
            The id of the new commit, 40 hex digits.

        Raises:
            InvalidNameError: a repo id, path or branch that cannot be stored, or a new repo whose
                first branch is not `main`. Nothing is committed.
        """
        check_repo_id(repo_id)
        changes = [self.add(check_path(path), source) for path, source in files.items()]
        with self._db.write() as connection:
            row = connection.execute(records.by_id(repo_id)).one_or_none() or records.new_repo(
                connection, repo_id
            )
            heads = records.read_repo(connection, row).branches
            if branch != "main" and "main" not in heads:
                raise InvalidNameError(f"{repo_id!r} is new: its first branch is 'main'.")
            parent = heads.get(branch, heads.get("main"))
            commit_id = self._commit(connection, row, parent, changes, message, author)
            records.set_ref(connection, row, "branch", check_ref(branch), commit_id)
        return commit_id

    def apply(
        self,
        repo_id: str,
        revision: str,
        changes: Sequence[Change],
        *,
        message: str,
        author: str,
        parent: str | None = None,
        as_pull: bool = False,
    ) -> tuple[str, str]:
        """Make one commit of `changes` on a branch or pull request.

        Args:
            parent: the commit that must still be the newest there; None is whichever it is.
            as_pull: open a pull request for the commit, and leave the branch where it is.

        Returns:
            The id of the commit, and the revision that it is now the newest of.

        Raises:
            MissingRevisionError: no such branch.
            StaleParentError: the branch has moved on from `parent`. Nothing is committed.
            ContentError: a content that is not there (any more). Nothing is committed.
        """
        with self._db.write() as connection:
            row = records.repo_row(connection, repo_id)
            repo = records.read_repo(connection, row)
            kind = "pull" if revision in repo.pulls else "branch"
            head = repo.pulls.get(revision) or repo.branches.get(revision)
            if head is None:
                raise records.no_revision(repo, revision, {**repo.branches, **repo.pulls})
            if parent not in (None, head):
                raise StaleParentError(
                    f"{revision!r} of {repo_id!r} is at commit {head}; this commit was made for "
                    f"{parent}. Nothing was committed: look at what changed and try again."
                )
            commit_id = self._commit(connection, row, head, changes, message, author)
            if as_pull:
                title = message.partition("\n")[0]
                return commit_id, records.open_pull(connection, row, title, author, commit_id)
            records.set_ref(connection, row, kind, revision, commit_id)
        return commit_id, revision

    def _commit(
        self,
        connection: Connection,
        row: Row[Any],
        parent: str | None,
        changes: Sequence[Change],
        message: str,
        author: str,
    ) -> str:
        # Inside the transaction, so that no gc comes between the look and the commit.
        for change in changes:
            if isinstance(change, Put) and self.blobs.size(change.blob.sha256) != change.blob.size:
                raise ContentError(
                    f"The content of {change.path!r} ({change.blob.size} bytes, sha256 "
                    f"{change.blob.sha256}) is not on this hub. Nothing was committed: upload it "
                    "and try again."
                )
        before = records.read_files(connection, row.key, parent) if parent else {}
        files = changed(before, changes, parent or "")
        return records.write_commit(connection, row, parent, files, message, author)

    # Pull requests

    def open_pull(self, repo_id: str, title: str, author: str = "zoo") -> Pull:
        """Start a pull request where `main` is, for commits that are still to come."""
        with self._db.write() as connection:
            row = records.repo_row(connection, repo_id)
            head = records.read_repo(connection, row).branches["main"]
            name = records.open_pull(connection, row, title, author, head)
            repo = records.read_repo(connection, row)
            return records.read_pull(connection, repo, int(name.rpartition("/")[2]))

    def pull(self, repo: Repo, number: int) -> Pull:
        """The pull request with this number. Raises `MissingRevisionError`."""
        with self._db.read() as connection:
            return records.read_pull(connection, repo, number)

    def pulls(self, repo: Repo) -> list[Pull]:
        """Every pull request of a repo, the newest first."""
        with self._db.read() as connection:
            return records.read_pulls(connection, repo)

    def close_pull(self, repo_id: str, number: int, closed: bool = True) -> None:
        """Close a pull request, or open it again. Raises `MissingRevisionError`, `TakenError`."""
        with self._db.write() as connection:
            row = records.repo_row(connection, repo_id)
            pull = records.read_pull(connection, records.read_repo(connection, row), number)
            if pull.merged:
                raise TakenError(f"{pull.revision!r} of {repo_id!r} is merged already.")
            records.set_pull(connection, row, number, closed=closed)

    def merge(self, repo_id: str, number: int) -> None:
        """Move `main` on to where a pull request is.

        Raises:
            MissingRevisionError: no such pull request.
            TakenError: `main` has commits that the pull request has not, or it is not open.
                Nothing is merged.
        """
        with self._db.write() as connection:
            row = records.repo_row(connection, repo_id)
            repo = records.read_repo(connection, row)
            pull = records.read_pull(connection, repo, number)
            if pull.closed:
                raise TakenError(f"{pull.revision!r} of {repo_id!r} is closed. Open it first.")
            head = repo.pulls[pull.revision]
            past = records.ancestors(connection, row, head)
            if repo.branches["main"] not in past:
                raise TakenError(
                    f"'main' of {repo_id!r} has moved on since {pull.revision!r} was opened. "
                    "Nothing was merged: make the change again, on what is there now."
                )
            records.set_ref(connection, row, "branch", "main", head)
            records.set_pull(connection, row, number, merged=True)

    # Branches and tags

    def create_branch(self, repo_id: str, name: str, revision: str = "main") -> None:
        """Start a branch at `revision`. Raises `TakenError`."""
        self._create_ref(repo_id, "branch", name, revision)

    def tag(self, repo_id: str, name: str, revision: str = "main") -> None:
        """Name the commit that `revision` points at now. Raises `TakenError`: tags do not move."""
        self._create_ref(repo_id, "tag", name, revision)

    def _create_ref(self, repo_id: str, kind: str, name: str, revision: str) -> None:
        with self._db.write() as connection:
            row = records.repo_row(connection, repo_id)
            repo = records.read_repo(connection, row)
            repo.check_free(check_ref(name))
            records.set_ref(
                connection, row, kind, name, records.commit_at(connection, repo, revision).id
            )

    def delete_branch(self, repo_id: str, name: str) -> None:
        """Remove a branch; its commits stay. Raises `InvalidNameError` for `main`."""
        if name == "main":
            raise InvalidNameError("The branch 'main' cannot be deleted.")
        self._delete_ref(repo_id, "branch", name)

    def delete_tag(self, repo_id: str, name: str) -> None:
        """Remove a tag; its commit stays."""
        self._delete_ref(repo_id, "tag", name)

    def _delete_ref(self, repo_id: str, kind: str, name: str) -> None:
        with self._db.write() as connection:
            row = records.repo_row(connection, repo_id)
            where = (db.refs.c.repo == row.key, db.refs.c.kind == kind, db.refs.c.name == name)
            if not connection.execute(delete(db.refs).where(*where)).rowcount:
                repo = records.read_repo(connection, row)
                raise records.no_revision(repo, name, repo.tags if kind == "tag" else repo.branches)

    # Tidying up

    def gc(self, grace: float = GRACE, *, dry_run: bool = False) -> Garbage:
        """Remove the contents that no commit has, and uploads that broke off.

        Args:
            grace: seconds for which both are left alone, for a commit may still be coming.
            dry_run: remove nothing.
        """
        with self._db.write() as connection:  # no commit may be made meanwhile
            old = db.uploads.c.received <= time.time() - grace
            connection.execute(delete(db.uploads).where(old))
            used = set(connection.scalars(select(db.files.c.sha256).distinct()))
            used |= set(connection.scalars(select(db.uploads.c.sha256)))
            unused = [p for p in self.blobs.all() if p.name not in used]
            garbage = [p for p in unused if contents.age(p) >= grace]
            garbage += self.blobs.leftovers(grace)
            found = Garbage(len(garbage), sum(map(contents.disk_usage, garbage)))
            for path in () if dry_run else garbage:
                contents.remove(path)
            if dry_run:
                connection.rollback()
            elif garbage:
                # What clients remember to have sent is not here any more.
                connection.execute(delete(db.spans))
                connection.execute(update(db.repos).values(space=_NEW_SPACE))
        return found
