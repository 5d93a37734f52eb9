"""The files that zoo fetched: to list, verify and remove them, and to touch no others.

Other programs share the cache of the public hub. What is zoo's is what its ledger says it fetched.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from zoo.errors import NotFoundError, did_you_mean
from zoo.weights.client import repo_folder
from zoo.weights.disk import disk_errors, sha256_of
from zoo.weights.endpoint import (
    Endpoint,
    endpoint_caches,
    feature_cache,
    hub_cache,
    url_cache,
)
from zoo.weights.handle import Source
from zoo.weights.https import place_of
from zoo.weights.ledger import Ledger, Record

_CONTENT = {"blobs", "snapshots"}
_LEFTOVERS = ("*.partial", "*.partial.json", "blobs/*.incomplete")


@dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """A file in the cache.

    Attributes:
        repo: `org/name`, or the address that the file came from.
        endpoint: base address of the hub; None for a plain address.
        commit: the repo's commit; None for a plain address.
        file: its name in the repo.
        path: where it is.
        sha256: the hash that was verified when it came.
        size: in bytes.
        last_used: when it was last loaded.
    """

    repo: str
    endpoint: str | None
    commit: str | None
    file: str
    path: Path
    sha256: str
    size: int
    last_used: datetime


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A file in the cache, and the sha256 that it has now; None if it is gone."""

    entry: CacheEntry
    found: str | None

    @property
    def ok(self) -> bool:
        return self.found == self.entry.sha256


def entries(source: Source) -> list[CacheEntry]:
    """The files that zoo fetched, in every cache, or in that of the source's endpoint alone."""
    found = (_entry(ledger, record, used) for ledger, record, used in _fetched(source))
    return [entry for entry in found if entry.path.exists()]


def is_cached(file: str, *, repo: str | None, url: str | None, source: Source) -> bool:
    """Whether a file of a repo, or of an address, is in the cache, whoever fetched it.

    Its content is not checked: a load does that.
    """
    if url is not None:
        return place_of(url, source).is_file()
    folder = Endpoint.of(source).cache / repo_folder(repo or "")
    return any((commit / file).is_file() for commit in folder.glob("snapshots/*"))


def verify(source: Source) -> list[Verified]:
    """Hash every file that zoo has verified before, whoever fetched it, and compare.

    A file whose content changed is hashed again when it is next loaded, which then refuses it.
    """
    results = []
    for ledger, record, used in _records(source):
        entry = _entry(ledger, record, used)
        found = sha256_of(entry.path) if entry.path.is_file() else None
        if found not in (None, record.sha256):
            ledger.write(replace(record, mtime_ns=0))
        results.append(Verified(entry=entry, found=found))
    return results


def remove(repo: str, source: Source) -> list[CacheEntry]:
    """Remove the files of a repo (or address) that zoo fetched, at all commits.

    Returns:
        What was removed.

    Raises:
        NotFoundError: zoo fetched no file of this repo.
        DiskError: the cache cannot be written.
    """
    removed = _remove(source, lambda entry: entry.repo == repo)
    if not removed:
        repos = {entry.repo for entry in entries(source)}
        raise NotFoundError(
            f"zoo fetched no file of {repo!r}.{did_you_mean(repo, repos)} `zoo cache ls` lists "
            "what there is. Files that other programs fetched are left to them."
        )
    return removed


def prune(
    source: Source, unused_for: timedelta = timedelta(days=30), *, dry_run: bool = False
) -> list[CacheEntry]:
    """Remove what zoo fetched and nobody has loaded for a while, and what broken downloads left.

    Features that fine-tuning computed go as well where no run has read them for as long, but for
    those of a single endpoint, which has none.

    Args:
        source: which caches.
        unused_for: how long a file must not have been loaded.
        dry_run: remove nothing.

    Returns:
        What was removed, or would be.

    Raises:
        DiskError: the cache cannot be written.
    """
    oldest = datetime.now(UTC) - unused_for
    if dry_run:
        return [entry for entry in entries(source) if entry.last_used <= oldest]
    for ledger in list(_ledgers(source)):
        _sweep(ledger.folder, oldest.timestamp())
    if not source.endpoint:
        _sweep_features(feature_cache(source), oldest.timestamp())
    return _remove(source, lambda entry: entry.last_used <= oldest)


def _remove(source: Source, choose: Callable[[CacheEntry], bool]) -> list[CacheEntry]:
    removed = []
    for ledger, record, used in list(_fetched(source)):
        entry = _entry(ledger, record, used)
        with disk_errors(entry.path):
            if not entry.path.exists():
                ledger.forget(record)  # another program removed it
            elif choose(entry):
                _delete(ledger, record, entry.path)
                removed.append(entry)
    return removed


def _delete(ledger: Ledger, record: Record, path: Path) -> None:
    """Remove a file, its blob where no other file needs it, and folders that are then empty."""
    blob = _target(path)
    path.unlink()
    ledger.forget(record)
    if blob and not any(_target(other) == blob for other in ledger.folder.glob("snapshots/**/*")):
        blob.unlink(missing_ok=True)
    for folder in path.parents:
        if folder == ledger.folder or any(folder.iterdir()):
            break
        folder.rmdir()
    _remove_if_spent(ledger.folder)


def _sweep(folder: Path, oldest: float) -> None:
    """Remove what broken downloads left in a folder of the cache, if it is older than that."""
    for leftover in [path for kind in _LEFTOVERS for path in folder.glob(kind)]:
        with disk_errors(leftover):
            if leftover.stat().st_mtime <= oldest:
                leftover.unlink(missing_ok=True)
                _remove_if_spent(folder)


def _sweep_features(folder: Path, oldest: float) -> None:
    """Remove the features that were not read since then, and what a broken computation left."""
    for features in folder.glob("*"):
        with disk_errors(features):
            if features.stat().st_mtime <= oldest:
                shutil.rmtree(features)


def _remove_if_spent(folder: Path) -> None:
    if not _holds_files(folder):
        shutil.rmtree(folder, ignore_errors=True)


def _target(path: Path) -> Path | None:
    """What a link of the cache points at."""
    if not path.is_symlink():
        return None
    return Path(os.path.normpath(path.parent / path.readlink()))


def _holds_files(folder: Path) -> bool:
    """Whether a folder of the cache holds more than what programs noted about it."""
    own = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    kept = (path for name in _CONTENT for path in (folder / name).rglob("*"))
    return bool(own) or any(path.is_file() or path.is_symlink() for path in kept)


def _entry(ledger: Ledger, record: Record, used: float) -> CacheEntry:
    return CacheEntry(
        repo=record.origin,
        endpoint=record.endpoint,
        commit=record.commit,
        file=record.file,
        path=ledger.folder / record.path,
        sha256=record.sha256,
        size=record.size,
        last_used=datetime.fromtimestamp(used, UTC),
    )


def _fetched(source: Source) -> Iterator[tuple[Ledger, Record, float]]:
    return (found for found in _records(source) if found[1].fetched)


def _records(source: Source) -> Iterator[tuple[Ledger, Record, float]]:
    for ledger in _ledgers(source):
        for record, used in ledger.records():
            yield ledger, record, used


def _ledgers(source: Source) -> Iterator[Ledger]:
    if source.endpoint:
        hubs, urls = [Endpoint.of(source).cache], []
    else:
        hubs = [hub_cache(source), *sorted(endpoint_caches(source).glob("*"))]
        urls = sorted(url_cache(source).glob("*"))
    repos = [notes.parent for hub in hubs for notes in sorted(hub.glob("*/.zoo"))]
    yield from map(Ledger, [*repos, *urls])
