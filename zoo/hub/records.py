"""The hub's nouns as rows of its tables: read, and written, inside somebody's transaction."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from zoo.hub import database as db
from zoo.hub.errors import MissingRepoError, MissingRevisionError, TakenError
from zoo.hub.objects import (
    Blob,
    Commit,
    LogEntry,
    Pull,
    Repo,
    check_repo_id,
    is_repo_id,
    near_names,
)

_COMMIT_ID = re.compile(r"[0-9a-f]{40}")


def by_id(repo_id: str) -> Select[Any]:
    return select(db.repos).where(db.repos.c.id == repo_id)


def repo_row(connection: Connection, repo_id: str) -> Row[Any]:
    row = connection.execute(by_id(repo_id)).one_or_none() if is_repo_id(repo_id) else None
    if row is None:
        raise MissingRepoError(repo_id)
    return row


def read_repo(connection: Connection, row: Row[Any]) -> Repo:
    names: dict[str, dict[str, str]] = {"branch": {}, "tag": {}, "pull": {}}
    for ref in connection.execute(select(db.refs).where(db.refs.c.repo == row.key)):
        names[ref.kind][ref.name] = ref.commit_id
    return Repo(
        id=row.id,
        created=row.created,
        private=row.private,
        gated=row.gated,
        branches=names["branch"],
        tags=names["tag"],
        pulls=names["pull"],
    )


def check_free(connection: Connection, repo_id: str) -> None:
    if connection.execute(by_id(repo_id)).one_or_none():
        raise TakenError(f"Repository {repo_id!r} exists already.")


def new_repo(connection: Connection, repo_id: str, *, private: bool = False) -> Row[Any]:
    check_free(connection, check_repo_id(repo_id))
    values: dict[str, Any] = {"id": repo_id, "created": now(), "private": private, "gated": False}
    values["space"] = uuid.uuid4().hex
    connection.execute(insert(db.repos).values(**values))
    return repo_row(connection, repo_id)


def set_ref(connection: Connection, row: Row[Any], kind: str, name: str, commit_id: str) -> None:
    statement = upsert(db.refs).values(repo=row.key, kind=kind, name=name, commit_id=commit_id)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["repo", "kind", "name"], set_={"commit_id": commit_id}
        )
    )


def no_revision(repo: Repo, revision: str, names: Mapping[str, str]) -> MissingRevisionError:
    near = near_names(revision, names)
    return MissingRevisionError(f"No revision {revision[:100]!r} in repository {repo.id!r}.{near}")


def commit_at(connection: Connection, repo: Repo, revision: str) -> Commit:
    commit_id = repo.names.get(revision, revision)
    key = repo_row(connection, repo.id).key
    found = log_entry(connection, key, commit_id) if _COMMIT_ID.fullmatch(commit_id) else None
    if found is None:
        raise no_revision(repo, revision, repo.names)
    return Commit(**asdict(found), files=read_files(connection, key, commit_id))


def log_entry(connection: Connection, repo_key: int, commit_id: str) -> LogEntry | None:
    where = (db.commits.c.repo == repo_key, db.commits.c.id == commit_id)
    found = connection.execute(select(db.commits).where(*where)).one_or_none()
    if found is None:
        return None
    return LogEntry(
        id=found.id,
        parent=found.parent,
        message=found.message,
        author=found.author,
        date=found.date,
    )


def ancestors(connection: Connection, row: Row[Any], commit_id: str) -> set[str]:
    """The ids of a commit and of all that it came from."""
    commits = select(db.commits.c.id, db.commits.c.parent).where(db.commits.c.repo == row.key)
    parents = {line.id: line.parent for line in connection.execute(commits)}
    found, commit = set[str](), commit_id
    while commit:
        found.add(commit)
        commit = parents[commit]
    return found


def read_files(connection: Connection, repo_key: int, commit_id: str) -> dict[str, Blob]:
    statement = select(db.files).join(db.commits)
    where = (db.commits.c.repo == repo_key, db.commits.c.id == commit_id)
    rows = connection.execute(statement.where(*where).order_by(db.files.c.path))
    return {r.path: Blob(sha256=r.sha256, size=r.size, oid=r.oid, lfs=r.lfs) for r in rows}


def write_commit(
    connection: Connection,
    row: Row[Any],
    parent: str | None,
    files: Mapping[str, Blob],
    message: str,
    author: str,
) -> str:
    facts = {"parent": parent, "message": message, "author": author, "date": now()}
    tree = {path: asdict(blob) for path, blob in files.items()}
    identity = json.dumps({**facts, "repo": row.id, "files": tree}, sort_keys=True)
    commit_id = hashlib.sha1(identity.encode()).hexdigest()
    # A commit is named after what it holds: the same one, made twice at once, is one commit.
    made = connection.execute(
        upsert(db.commits).values(repo=row.key, id=commit_id, **facts).on_conflict_do_nothing()
    )
    if made.rowcount and tree:
        key = made.inserted_primary_key[0]  # type: ignore[index]
        lines = [{"commit": key, "path": path, **blob} for path, blob in tree.items()]
        connection.execute(insert(db.files), lines)
    return commit_id


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def open_pull(
    connection: Connection, row: Row[Any], title: str, author: str, commit_id: str
) -> str:
    """Give the next pull request its number and its newest commit; its name as a revision."""
    of_repo = db.pulls.c.repo == row.key
    number = 1 + (connection.scalar(select(func.max(db.pulls.c.number)).where(of_repo)) or 0)
    pull = Pull(number=number, title=title, author=author, created=now())
    connection.execute(insert(db.pulls).values(repo=row.key, **asdict(pull)))
    set_ref(connection, row, "pull", pull.revision, commit_id)
    return pull.revision


def read_pull(connection: Connection, repo: Repo, number: int) -> Pull:
    """A pull request. Raises `MissingRevisionError`."""
    where = (db.pulls.c.repo == repo_row(connection, repo.id).key, db.pulls.c.number == number)
    found = connection.execute(select(db.pulls).where(*where)).one_or_none()
    if found is None:
        raise no_revision(repo, f"refs/pr/{number}", repo.pulls)
    return _pull(found)


def set_pull(connection: Connection, row: Row[Any], number: int, **values: bool) -> None:
    where = (db.pulls.c.repo == row.key, db.pulls.c.number == number)
    connection.execute(update(db.pulls).where(*where).values(**values))


def read_pulls(connection: Connection, repo: Repo) -> list[Pull]:
    """Every pull request of a repo, the newest first."""
    of_repo = db.pulls.c.repo == repo_row(connection, repo.id).key
    found = connection.execute(select(db.pulls).where(of_repo).order_by(db.pulls.c.number.desc()))
    return [_pull(row) for row in found]


def _pull(row: Row[Any]) -> Pull:
    return Pull(
        number=row.number,
        title=row.title,
        author=row.author,
        created=row.created,
        merged=row.merged,
        closed=row.closed,
    )
