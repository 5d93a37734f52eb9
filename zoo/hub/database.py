"""The hub's tables: one SQLite file in WAL mode, for any number of threads and processes."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
    false,
    inspect,
)
from sqlalchemy.exc import OperationalError

from zoo.hub.errors import FullDiskError

_WAIT = 60  # seconds for another's transaction to end
_MAX_CONNECTIONS = 64  # more than there are worker threads

metadata = MetaData()


def _owned_by(table: str) -> Column[int]:
    return Column(
        table.removesuffix("s"),
        ForeignKey(f"{table}.key", ondelete="CASCADE"),
        nullable=False,
        index=True,
    )


repos = Table(
    "repos",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("created", String, nullable=False),
    Column("private", Boolean, nullable=False),
    Column("gated", Boolean, nullable=False),
    Column("space", String, nullable=False),  # see `zoo.hub.assembly`
)
refs = Table(
    "refs",
    metadata,
    _owned_by("repos"),
    Column("kind", String, nullable=False),  # branch, tag or pull
    Column("name", String, nullable=False),
    Column("commit_id", String, nullable=False),
    UniqueConstraint("repo", "kind", "name"),
)
pulls = Table(
    "pulls",
    metadata,
    _owned_by("repos"),
    Column("number", Integer, nullable=False),
    Column("title", String, nullable=False),
    Column("author", String, nullable=False),
    Column("created", String, nullable=False),
    Column("merged", Boolean, nullable=False),
    Column("closed", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("repo", "number"),
)
commits = Table(
    "commits",
    metadata,
    Column("key", Integer, primary_key=True),
    _owned_by("repos"),
    Column("id", String, nullable=False),
    Column("parent", String),
    Column("message", String, nullable=False),
    Column("author", String, nullable=False),
    Column("date", String, nullable=False),
    UniqueConstraint("repo", "id"),
)
files = Table(
    "files",
    metadata,
    _owned_by("commits"),
    Column("path", String, nullable=False),
    Column("sha256", String, nullable=False, index=True),
    Column("size", Integer, nullable=False),
    Column("oid", String, nullable=False),
    Column("lfs", Boolean, nullable=False),
    UniqueConstraint("commit", "path"),
)
# Contents that came in for a repo and that its next commit may name. Seconds since 1970.
uploads = Table(
    "uploads",
    metadata,
    _owned_by("repos"),
    Column("sha256", String, nullable=False),
    Column("received", Integer, nullable=False),
    UniqueConstraint("repo", "sha256"),
)
# Which chunks of which xorb a content has at `offset`, and where each ends from there.
spans = Table(
    "spans",
    metadata,
    Column("space", String, nullable=False),
    Column("xorb", String, nullable=False),
    Column("first", Integer, nullable=False),
    Column("last", Integer, nullable=False),
    Column("sha256", String, nullable=False, index=True),
    Column("offset", Integer, nullable=False),
    Column("ends", LargeBinary, nullable=False),
    UniqueConstraint("space", "xorb", "first", "last"),
)


class Database:
    """Transactions on the file `hub.sqlite3` of a folder, which is made when it is missing."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._engine = create_engine(
            f"sqlite:///{root / 'hub.sqlite3'}",
            pool_size=_MAX_CONNECTIONS,
            connect_args={"timeout": _WAIT},
        )
        event.listen(self._engine, "connect", _set_up)
        event.listen(self._engine, "begin", _begin)
        weakref.finalize(self, self._engine.dispose)
        with self.write() as connection:
            metadata.create_all(connection)
            _add_closed(connection)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One state of the tables, whatever is written meanwhile."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that nobody else writes beside: all of it is kept, or nothing."""
        with _full_disk_is_an_error(), self._engine.connect() as connection:
            connection.execution_options(zoo_writes=True)
            with connection.begin():
                yield connection

    def close(self) -> None:
        self._engine.dispose()


def _add_closed(connection: Connection) -> None:
    """Give the table of a hub that was made before pull requests could be closed its column."""
    if "closed" not in {column["name"] for column in inspect(connection).get_columns("pulls")}:
        connection.exec_driver_sql("ALTER TABLE pulls ADD COLUMN closed BOOLEAN NOT NULL DEFAULT 0")


def _set_up(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where `_begin` says so
    cursor = connection.cursor()
    # A committed transaction outlives a power cut, too: synchronous=NORMAL would lose the last.
    for setting in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _begin(connection: Connection) -> None:
    # A transaction that reads first and writes later could find itself on an old state.
    writes = connection.get_execution_options().get("zoo_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _full_disk_is_an_error() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        # A WAL file that cannot grow is an I/O error to SQLite, not a full disk.
        if "disk is full" in str(error) or "disk I/O error" in str(error):
            raise FullDiskError from error
        raise
