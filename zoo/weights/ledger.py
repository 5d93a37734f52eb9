"""What zoo remembers of a cache folder, so that it asks and hashes everything once.

Beside the files of a repo, in the folder of the Hugging Face cache that holds them:

    .zoo/files/<commit>/<file>.json   one file that was verified: its hash, size, time of change
    .zoo/commits/<commit>.json        the names, sizes and hashes that the hub gave for the commit
    .zoo/refs/<revision>              the commit that a branch or tag was resolved to
    .zoo/conversions/<commit>.json    the pull request that has its weights as safetensors

Other programs look at none of these, and deleting the repo's folder deletes them with it. A ledger
that cannot be written costs a second hash or request, never a load.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from zoo.weights.client import Listing, RemoteFile
from zoo.weights.disk import replacing

COMMIT = re.compile(r"[0-9a-f]{40}")
_FOLDER = ".zoo"
_NO_COMMIT = "url"  # in the place of a commit, for files that came from plain addresses


@dataclass(frozen=True, kw_only=True)
class Record:
    """A file of the cache whose content was verified.

    Attributes:
        origin: repo `org/name`, or the address it came from.
        endpoint: base address of the hub; None for a plain address.
        commit: the repo's commit; None for a plain address.
        file: its name.
        path: relative to the folder of the repo.
        sha256, size: of the content; size in bytes.
        mtime_ns: when the file was last changed, as the disk says.
        fetched: zoo put the file into the cache; else another program did.
    """

    origin: str
    endpoint: str | None
    commit: str | None
    file: str
    path: str
    sha256: str
    size: int
    mtime_ns: int
    fetched: bool

    def describes(self, path: Path) -> bool:
        """Whether the file is still the one that was verified, by its size and time of change."""
        found = path.stat()
        return (found.st_size, found.st_mtime_ns) == (self.size, self.mtime_ns)


class Ledger:
    """The ledger of one repo's (or address's) folder in the cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, commit: str | None, file: str) -> Record | None:
        """What is known of a file. Reading it marks the file as used now."""
        path = self._record_path(commit, file)
        record = _record(path)
        if record:
            with contextlib.suppress(OSError):
                os.utime(path)
        return record

    def write(self, record: Record) -> None:
        self._write(self._record_path(record.commit, record.file), asdict(record))

    def forget(self, record: Record) -> None:
        self._record_path(record.commit, record.file).unlink(missing_ok=True)

    def records(self) -> Iterator[tuple[Record, float]]:
        """Every record, and when it was last used, in seconds since the epoch."""
        for path in sorted((self.folder / _FOLDER / "files").rglob("*.json")):
            if record := _record(path):
                yield record, path.stat().st_mtime

    def listing(self, commit: str) -> Listing | None:
        """The files of a commit, where they were asked for before."""
        files = _read_json(self._listing_path(commit))
        try:
            return Listing(commit, {n: RemoteFile(*f) for n, f in files.items()}) if files else None
        except (AttributeError, TypeError):
            return None

    def commit_of(self, revision: str) -> str | None:
        """The commit that a branch or tag was resolved to: by zoo, else by another program."""
        for path in (self._ref_path(revision), self.folder / "refs" / revision):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                commit = path.read_text("utf-8").strip()
                if COMMIT.fullmatch(commit):
                    return commit
        return None

    def remember(self, revision: str, listing: Listing) -> None:
        """Keep what a revision was resolved to, for zoo and all who share the cache."""
        files = {name: [file.size, file.etag] for name, file in sorted(listing.files.items())}
        self._write(self._listing_path(listing.commit), files)
        if not COMMIT.fullmatch(revision):
            self._write(self._ref_path(revision), listing.commit)
            self._write(self.folder / "refs" / revision, listing.commit)

    def conversion_of(self, commit: str) -> dict[str, str] | None:
        """The pull request that is taken instead of a commit, and the commit that it was at."""
        found = _read_json(self._conversion_path(commit))
        fits = isinstance(found, dict) and found.keys() == {"revision", "commit"}
        return found if fits and COMMIT.fullmatch(str(found["commit"])) else None

    def remember_conversion(self, commit: str, found: dict[str, str]) -> None:
        self._write(self._conversion_path(commit), found)

    def keep_commit(self, revision: str, commit: str) -> None:
        """Make a commit that another program resolved zoo's own, so that it does not move."""
        if self._ref_path(revision).exists():
            return
        self._write(self._ref_path(revision), commit)

    def _record_path(self, commit: str | None, file: str) -> Path:
        return self.folder / _FOLDER / "files" / (commit or _NO_COMMIT) / f"{file}.json"

    def _listing_path(self, commit: str) -> Path:
        return self.folder / _FOLDER / "commits" / f"{commit}.json"

    def _conversion_path(self, commit: str) -> Path:
        return self.folder / _FOLDER / "conversions" / f"{commit}.json"

    def _ref_path(self, revision: str) -> Path:
        return self.folder / _FOLDER / "refs" / quote(revision, safe="")

    def _write(self, path: Path, content: Any) -> None:
        text = content if isinstance(content, str) else json.dumps(content, indent=1)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_text(text, "utf-8")


def _record(path: Path) -> Record | None:
    content = _read_json(path)
    try:
        return Record(**content) if content else None
    except TypeError:
        return None


def _read_json(path: Path) -> Any:
    """A file's content; None if it is missing, damaged or of a later version: it is made anew."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
