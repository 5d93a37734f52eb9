"""`zoo.lock`: the repo, commit, hash and size of every file that a project may load."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from zoo.errors import FileFormatError, LockError, NotFoundError, did_you_mean
from zoo.weights.disk import replacing

_VERSION = 1


@dataclass(frozen=True, kw_only=True, order=True)
class LockedFile:
    """One file that may be loaded.

    Attributes:
        repo: hub repo `org/name`, or the address of a file that is on no hub.
        file: its name in the repo.
        commit: the repo's commit; None for an address.
        sha256: hash of the content.
        size: in bytes.
    """

    repo: str
    file: str
    commit: str | None
    sha256: str
    size: int


class Lockfile:
    """A set of locked files: each repo at one commit, each file once.

    Attributes:
        path: where it was read from; None for one that is new.
        files: sorted by repo and file.
    """

    def __init__(self, files: Iterable[LockedFile] = (), path: Path | None = None) -> None:
        self.path = path
        self.files: tuple[LockedFile, ...] = ()
        self.merge(files)

    @classmethod
    def read(cls, path: str | os.PathLike) -> Lockfile:
        """Read a lockfile.

        Raises:
            NotFoundError: no such file.
            FileFormatError: not a lockfile, or one of a later version.
        """
        path = Path(path)
        try:
            content = json.loads(path.read_bytes())
            version = content["version"]
            files = [LockedFile(**entry) for entry in content["files"]] if version == 1 else []
        except FileNotFoundError as error:
            raise NotFoundError(f"No lockfile {path}. `zoo lock` writes one.") from error
        except (ValueError, LookupError, TypeError, IsADirectoryError) as error:
            raise FileFormatError(
                f"{path} is no lockfile ({error}). Restore it, or write it anew with `zoo lock`."
            ) from error
        if version != _VERSION:
            raise FileFormatError(
                f"{path} is a lockfile of version {version!r}; this zoo reads version {_VERSION}."
            )
        return cls(files, path)

    def write(self, path: str | os.PathLike) -> None:
        """Write the lockfile, whole or not at all. The same files give the same bytes.

        Raises:
            DiskError: a full disk or a folder that cannot be written.
        """
        content = {"version": _VERSION, "files": [asdict(entry) for entry in self.files]}
        with replacing(Path(path)) as temporary:
            temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")

    def merge(self, files: Iterable[LockedFile]) -> None:
        """Add files. A repo that comes at another commit loses what it had at the old one."""
        commits = {entry.repo: entry.commit for entry in self.files}
        kept = {(entry.repo, entry.file): entry for entry in self.files}
        for new in files:
            if commits.setdefault(new.repo, new.commit) != new.commit:
                kept = {key: entry for key, entry in kept.items() if entry.repo != new.repo}
                commits[new.repo] = new.commit
            kept[new.repo, new.file] = new
        self.files = tuple(kept[key] for key in sorted(kept))

    def commit(self, repo: str) -> str | None:
        """The commit at which a repo is locked.

        Raises:
            LockError: the lockfile does not list the repo.
        """
        for entry in self.files:
            if entry.repo == repo:
                return entry.commit
        repos = {entry.repo for entry in self.files}
        raise LockError(f"{self._name} does not list {repo}.{did_you_mean(repo, repos)} {_ADD}")

    def check(self, repo: str, commit: str | None, file: str, sha256: str, size: int) -> None:
        """Compare a file with what is locked.

        Raises:
            LockError: the lockfile does not list the file, or lists it otherwise.
        """
        found = LockedFile(repo=repo, file=file, commit=commit, sha256=sha256, size=size)
        if found in self.files:
            return
        locked = {entry.file: entry for entry in self.files if entry.repo == repo}
        if file not in locked:
            near = did_you_mean(file, locked)
            raise LockError(f"{self._name} does not list {file!r} of {repo}.{near} {_ADD}")
        expected = asdict(locked[file])
        other = {key: value for key, value in asdict(found).items() if value != expected[key]}
        raise LockError(
            f"{file!r} of {repo} is not the locked one: "
            + ", ".join(f"{key} {value}, expected {expected[key]}" for key, value in other.items())
            + f". Nothing was loaded. If the change is meant, update {self._name} with `zoo lock`."
        )

    @property
    def _name(self) -> str:
        return str(self.path or "the lockfile")


_ADD = "Nothing was loaded. Add it with `zoo lock`."
