"""A hub repo at one commit: every file fetched once, verified once, and asked for no more."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

from zoo.errors import HandleError, IntegrityError, LockError, NotFoundError, OfflineError
from zoo.weights.client import Client, Listing, repo_folder
from zoo.weights.conversion import AUTHOR, TITLE, find_conversion
from zoo.weights.disk import git_sha1_of, sha256_of
from zoo.weights.endpoint import Endpoint
from zoo.weights.folder import WEIGHTS, check_name, find_weights, is_weights, missing
from zoo.weights.handle import Source
from zoo.weights.ledger import COMMIT, Ledger, Record
from zoo.weights.lockfile import LockedFile, Lockfile

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_NO_CONVERSION = (
    f" Where no revision is named, the open pull request of the hub's converter ({TITLE!r} by "
    f"{AUTHOR}) is taken; none was found that fits this commit, or none is known offline."
)
_ETAG = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")  # git's sha1, or a sha256


def open_repository(
    repo: str,
    source: Source,
    revision: str | None = None,
    file: str | None = None,
    pull_request: str | None = None,
) -> Repository:
    """Open a hub repo at one commit.

    The commit is the lockfile's where the source has one; else what the source's revision, else
    `revision`, else `main` names. A branch or tag is resolved once and remembered: after that no
    request is made, until the source says `refresh`. Where nobody names a revision and `main` has
    no weights that zoo reads, the pull request of the hub's converter is taken, if there is one;
    see `zoo.weights.conversion`.

    Args:
        repo: `org/name`.
        source: where and how.
        revision: branch, tag, commit or pull request (`refs/pr/1`) of the handle or card.
        file: the weights that the card names.
        pull_request: where the card says that they are, if they are not on `main`.

    Raises:
        NotFoundError: no such repo or revision.
        AccessError: the repo is closed to this token, or to no token.
        OfflineError: offline, and the revision was never resolved.
        DownloadError: the hub cannot be reached or fails.
        LockError: the lockfile does not list the repo, or at another commit than is asked for.
        HandleError: no name of a repo or revision.
    """
    wanted = source.revision or revision or "main"
    if not _REPO.fullmatch(repo) or "" in wanted.split("/") or ".." in wanted:
        raise HandleError(f"'{repo}@{wanted}' is no repo and revision; 'org/name@revision' is.")
    lock = Lockfile.read(source.lockfile) if source.lockfile is not None else None
    endpoint = Endpoint.of(source)
    client = Client(endpoint, repo)
    ledger = Ledger(endpoint.cache / repo_folder(repo))
    if lock:
        return Repository(client, ledger, _locked_commit(lock, repo, wanted), lock)
    commit = _resolved(client, ledger, wanted, refresh=source.refresh)
    if source.revision or revision:
        return Repository(client, ledger, commit)
    converted = find_conversion(client, ledger, commit, file, pull_request, refresh=source.refresh)
    if converted:
        return Repository(client, ledger, converted.commit, pull_request=converted.revision)
    return Repository(client, ledger, commit)


def _locked_commit(lock: Lockfile, repo: str, wanted: str) -> str:
    commit = lock.commit(repo) or ""
    if not COMMIT.fullmatch(commit) or (COMMIT.fullmatch(wanted) and wanted != commit):
        raise LockError(
            f"{lock.path} locks {repo} at the commit {commit or None}, and {wanted} is asked for. "
            "Nothing was loaded. If the change is meant, update the lockfile with `zoo lock`."
        )
    return commit


def _resolved(client: Client, ledger: Ledger, wanted: str, *, refresh: bool) -> str:
    if COMMIT.fullmatch(wanted):
        return wanted
    known = None if refresh else ledger.commit_of(wanted)
    if known:
        ledger.keep_commit(wanted, known)
        return known
    if client.endpoint.offline:
        raise OfflineError(
            f"Offline, and which commit {client.repo}@{wanted} is has "
            + ("to be asked anew (refresh=True)" if refresh else "never been asked")
            + f": looked in {ledger.folder}. {_how_to_get(client.repo, wanted)}"
        )
    listing = client.list_files(wanted)
    ledger.remember(wanted, listing)
    return listing.commit


class Repository:
    """The files of a hub repo at one commit. Made by `open_repository`.

    Attributes:
        origin: `org/name`.
        endpoint: base address of the hub.
        commit: 40 hex digits; every file comes from it.
        used: the files that were handed out, by name, as a lockfile keeps them.
        pull_request: `refs/pr/4` where the commit is the converter's, since `main` has no weights.
    """

    def __init__(
        self,
        client: Client,
        ledger: Ledger,
        commit: str,
        lock: Lockfile | None = None,
        pull_request: str | None = None,
    ) -> None:
        self.origin = client.repo
        self.endpoint = client.endpoint.url
        self.commit: str | None = commit
        self.used: dict[str, LockedFile] = {}
        self.pull_request = pull_request
        self._commit = commit
        self._client = client
        self._ledger = ledger
        self._lock = lock
        self._snapshot = ledger.folder / "snapshots" / commit

    def file(self, name: str, *, required: bool = True, sha256: str | None = None) -> Path | None:
        """The path of a file in the cache, fetched and verified. See `Files.file`.

        Raises:
            NotFoundError, AccessError, DownloadError, OfflineError: it cannot be had.
            IntegrityError: its content is not the expected one.
            LockError: the lockfile does not list it, or lists it otherwise.
            DiskError: a full disk, or a cache that cannot be written.
        """
        path = self._snapshot / check_name(name)
        fetch = not path.is_file()
        if fetch:
            if self._is_absent(name):
                if required:
                    raise NotFoundError(missing(name, self.origin, self._listing(name).files))
                return None
            self._fetch(name, path)
        record = self._verified(name, path, sha256, fetched=fetch)
        locked = LockedFile(
            repo=self.origin, commit=self._commit, file=name, sha256=record.sha256, size=record.size
        )
        if self._lock:
            self._lock.check(**asdict(locked))
        self.used[name] = locked
        return path

    def weights(self, name: str | None = None, sha256: str | None = None) -> list[Path]:
        """The safetensors files of the model, fetched and verified. See `Files.weights`."""
        return find_weights(self, self.names, name, sha256, _NO_CONVERSION)

    def names(self) -> list[str]:
        """The repo's files; the cached ones alone, where these are enough to find the weights."""
        if listing := self._ledger.listing(self._commit):
            return list(listing.files)
        cached = [path.name for path in self._snapshot.glob("*")]
        return cached if any(map(is_weights, cached)) else list(self._listing(WEIGHTS).files)

    def _listing(self, name: str) -> Listing:
        """All the files of the commit, from the ledger or the hub; `name` is what it is for."""
        listing = self._ledger.listing(self._commit)
        if not listing:
            self._must_be_online(name)
            listing = self._client.list_files(self._commit)
            self._ledger.remember(self._commit, listing)
        return listing

    def _is_absent(self, name: str) -> bool:
        """Whether the repo is known, or found, not to have a file."""
        marker = self._ledger.folder / ".no_exist" / self._commit / name  # of the hub's client
        return marker.is_file() or name not in self._listing(name).files

    def _fetch(self, name: str, path: Path) -> None:
        self._must_be_online(name)
        fetched = self._client.download(self._commit, name)
        if fetched != path:
            raise IntegrityError(
                f"{self.endpoint} sent {name!r} of {self.origin} from another commit than "
                f"{self._commit}, which was asked for: {fetched}. It was not loaded."
            )

    def _must_be_online(self, name: str) -> None:
        if self._client.endpoint.offline:
            raise OfflineError(
                f"Offline, and {name!r} of {self.origin} at commit {self._commit} is not in the "
                f"cache {self._ledger.folder}. {_how_to_get(self.origin, self._commit)}"
            )

    def _verified(self, name: str, path: Path, expected: str | None, *, fetched: bool) -> Record:
        """The record of a file, which is hashed unless that was done before."""
        known = None if fetched else self._ledger.read(self._commit, name)
        if known and known.describes(path):
            record = known
        else:
            record = self._hashed(name, path, fetched=fetched or bool(known and known.fetched))
        if expected and record.sha256 != expected.lower():
            raise IntegrityError(
                f"{name!r} of {self.origin} at commit {self._commit} has the sha256 "
                f"{record.sha256}; expected {expected}. "
                + (self._discarded(path, record) if fetched else "It was not loaded.")
                + " Either the publisher changed the file, or the expected hash is of another "
                "commit; name the one that you mean ('org/name@commit')."
            )
        if record is not known:
            self._ledger.write(record)
        return record

    def _hashed(self, name: str, path: Path, *, fetched: bool) -> Record:
        """Hash a file and compare it with what the hub says, which its client does not do."""
        state = path.stat()
        sha256 = sha256_of(path)
        record = Record(
            origin=self.origin,
            endpoint=self.endpoint,
            commit=self._commit,
            file=name,
            path=path.relative_to(self._ledger.folder).as_posix(),
            sha256=sha256,
            size=state.st_size,
            mtime_ns=state.st_mtime_ns,
            fetched=fetched,
        )
        expected = self._etag(name, path)
        found = git_sha1_of(path) if expected and len(expected) == 40 else sha256
        if expected and found != expected:
            raise IntegrityError(
                f"{name!r} of {self.origin} at commit {self._commit} has the hash {found}; "
                f"{self.endpoint} gave {expected}. {self._discarded(path, record)} Load it again. "
                "If that does not help, the hub, a proxy or the disk changes the content."
            )
        return record

    def _etag(self, name: str, path: Path) -> str | None:
        """The hash that the hub gave for a file: in its listing, or as the name of the blob."""
        listing = self._ledger.listing(self._commit)
        given = listing.files[name].etag if listing and name in listing.files else None
        blob = path.readlink().name if path.is_symlink() else ""
        return next((etag for etag in (given, blob) if etag and _ETAG.fullmatch(etag)), None)

    def _discarded(self, path: Path, record: Record) -> str:
        """Remove a file whose content is wrong, and say so."""
        try:
            if path.is_symlink():
                (path.parent / path.readlink()).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            self._ledger.forget(record)
        except OSError as error:
            return f"It was not loaded, and could not be removed from the cache ({error})."
        return "It was not loaded, and was removed from the cache."


def _how_to_get(repo: str, revision: str) -> str:
    return (
        f"Get it with a network: `zoo pull hf://{repo}@{revision}`, or allow the network "
        "(offline=False, HF_HUB_OFFLINE=0)."
    )
