"""Repos in a folder: blobs by their sha256, a JSON manifest per commit, a file of refs per repo.

    blobs/<2 hex digits>/<sha256>              contents
    repos/<org>/<name>/repo.json               branches, tags, private, gated
    repos/<org>/<name>/commits/<id>.json       parent, message, author, date, files

Blobs and manifests are named after their own content and never change. A commit writes its blobs,
then its manifest, and moves the branch last: one that fails on the way leaves nothing to be seen.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, ClassVar

from zoo.errors import NotFoundError, ZooError, did_you_mean

LFS_THRESHOLD = 1_000_000  # bytes; larger files are kept as LFS objects, as every *.safetensors is
_CHUNK = 1 << 20
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_COMMIT_ID = re.compile(r"[0-9a-f]{40}")
_CONTROL_OR_BACKSLASH = re.compile(r"[\x00-\x1f\x7f\\]")


class MissingError(NotFoundError):
    """Something that the storage has not; `code` is the protocol's name for its kind."""

    code: ClassVar[str]
    commit: str | None = None


class MissingRepoError(MissingError):
    """A repo that is not there, or not for this reader."""

    code = "RepoNotFound"

    def __init__(self, repo_id: str):
        super().__init__(f"Repository {repo_id!r} not found.")


class MissingRevisionError(MissingError):
    """A branch, tag or commit that the repo has not."""

    code = "RevisionNotFound"


class MissingEntryError(MissingError):
    """A file or folder that the commit has not."""

    code = "EntryNotFound"

    def __init__(self, path: str, commit: Commit):
        super().__init__(f"No {path!r} in commit {commit.id}.{did_you_mean(path, commit.files)}")
        self.commit = commit.id


class InvalidNameError(ZooError, ValueError):
    """A repo id, path or branch that cannot be stored."""


class TakenError(ZooError, FileExistsError):
    """A name that is in use already."""


@dataclass(frozen=True, kw_only=True)
class Blob:
    """One file's content.

    Attributes:
        sha256: of the content, which is stored under that name.
        size: in bytes.
        oid: git's name for it: the sha1 of the blob object, which for LFS holds the pointer.
        lfs: kept as an LFS object.
    """

    sha256: str
    size: int
    oid: str
    lfs: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid

    @property
    def pointer(self) -> bytes:
        """The text that git holds in the place of an LFS object."""
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\n"
            f"size {self.size}\n"
        ).encode()


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One state of a repo: all its files by path, and where it came from. `date` is ISO 8601."""

    id: str
    parent: str | None
    message: str
    author: str
    date: str
    files: Mapping[str, Blob]

    def file(self, path: str) -> Blob:
        """The file at `path`. Raises `MissingEntryError`."""
        if path not in self.files:
            raise MissingEntryError(path, self)
        return self.files[path]


@dataclass(frozen=True, kw_only=True)
class Repo:
    """A model repo: who may read it, and the commits its branches and tags point at."""

    id: str
    created: str
    private: bool = False
    gated: bool = False
    branches: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        return self.id.partition("/")[0]


class Storage:
    """A folder of repos. Safe to read while it is written; one process at a time may write.

    Args:
        root: the folder; made when the first commit comes.
    """

    def __init__(self, root: Path):
        self.root = Path(root)
        self._lock = threading.Lock()

    # Reading

    def repos(self) -> list[Repo]:
        """Every repo, sorted by id."""
        files = self.root.glob("repos/*/*/repo.json")
        return sorted((Repo(**json.loads(f.read_bytes())) for f in files), key=lambda r: r.id)

    def repo(self, repo_id: str) -> Repo:
        """The repo `org/name`. Raises `MissingRepoError`."""
        if not _REPO_ID.fullmatch(repo_id):
            raise MissingRepoError(repo_id)
        try:
            return Repo(**json.loads((self._folder(repo_id) / "repo.json").read_bytes()))
        except FileNotFoundError:
            raise MissingRepoError(repo_id) from None

    def commit_at(self, repo: Repo, revision: str) -> Commit:
        """The commit that a branch, a tag or a commit id names. Raises `MissingRevisionError`."""
        names = {**repo.tags, **repo.branches}
        commit_id = names.get(revision, revision)
        try:
            if _COMMIT_ID.fullmatch(commit_id):
                return self._read_commit(repo.id, commit_id)
        except FileNotFoundError:
            pass
        raise MissingRevisionError(
            f"No revision {revision!r} in repository {repo.id!r}.{did_you_mean(revision, names)}"
        )

    def history(self, repo: Repo, commit: Commit) -> Iterator[Commit]:
        """`commit` and its ancestors, newest first."""
        yield commit
        while commit.parent:
            commit = self._read_commit(repo.id, commit.parent)
            yield commit

    def blob_path(self, blob: Blob) -> Path:
        """The file that holds the content."""
        return self.root / "blobs" / blob.sha256[:2] / blob.sha256

    # Writing

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
            InvalidNameError: a repo id or path that cannot be stored, or a new repo whose first
                branch is not `main`. Nothing is committed.
        """
        if not _REPO_ID.fullmatch(repo_id):
            raise InvalidNameError(f"{repo_id!r} is no repo id; expected 'org/name'.")
        blobs = {check_path(path): self._add_blob(path, source) for path, source in files.items()}
        with self._lock:
            repo = self._repo_or_new(repo_id)
            if branch != "main" and "main" not in repo.branches:
                raise InvalidNameError(f"{repo_id!r} is new: its first branch is 'main'.")
            parent = repo.branches.get(branch, repo.branches.get("main"))
            inherited = self._read_commit(repo_id, parent).files if parent else {}
            tree = {**inherited, **blobs}
            _check_folders(tree)
            manifest = {
                "parent": parent,
                "message": message,
                "author": author,
                "date": _now(),
                "files": {path: asdict(tree[path]) for path in sorted(tree)},
            }
            commit_id = hashlib.sha1(_json(manifest)).hexdigest()
            _write(self._folder(repo_id) / "commits" / f"{commit_id}.json", _json(manifest))
            self._write_repo(replace(repo, branches={**repo.branches, branch: commit_id}))
        return commit_id

    def tag(self, repo_id: str, name: str, revision: str = "main") -> None:
        """Name the commit that `revision` points at now. Raises `TakenError`: tags do not move."""
        with self._lock:
            repo = self.repo(repo_id)
            if name in repo.tags or name in repo.branches:
                raise TakenError(f"{repo_id!r} has a branch or tag {name!r} already.")
            commit = self.commit_at(repo, revision)
            self._write_repo(replace(repo, tags={**repo.tags, name: commit.id}))

    def set_private(self, repo_id: str, private: bool = True) -> None:
        """Hide the repo from all but the members of its owner, or show it."""
        with self._lock:
            self._write_repo(replace(self.repo(repo_id), private=private))

    def set_gated(self, repo_id: str, gated: bool = True) -> None:
        """Keep the repo's files from all but the members of its owner, or open them."""
        with self._lock:
            self._write_repo(replace(self.repo(repo_id), gated=gated))

    # Files

    def _folder(self, repo_id: str) -> Path:
        return self.root / "repos" / repo_id

    def _repo_or_new(self, repo_id: str) -> Repo:
        try:
            return self.repo(repo_id)
        except MissingRepoError:
            return Repo(id=repo_id, created=_now())

    def _write_repo(self, repo: Repo) -> None:
        _write(self._folder(repo.id) / "repo.json", _json(asdict(repo)))

    def _read_commit(self, repo_id: str, commit_id: str) -> Commit:
        manifest = json.loads(
            (self._folder(repo_id) / "commits" / f"{commit_id}.json").read_bytes()
        )
        files = {path: Blob(**blob) for path, blob in manifest.pop("files").items()}
        return Commit(id=commit_id, files=files, **manifest)

    def _add_blob(self, path: str, source: bytes | Path) -> Blob:
        """Store one file's content, reading it once and a piece at a time."""
        sha256, size = hashlib.sha256(), 0
        with _staged(self.root / "blobs") as file, _open(source) as content:
            while piece := content.read(_CHUNK):
                sha256.update(piece)
                size += file.write(piece)
            file.close()
            lfs = path.endswith(".safetensors") or size > LFS_THRESHOLD
            blob = Blob(sha256=sha256.hexdigest(), size=size, oid="", lfs=lfs)
            staged = Path(file.name)
            blob = replace(blob, oid=_git_oid(blob.pointer if lfs else staged.read_bytes()))
            self.blob_path(blob).parent.mkdir(exist_ok=True)
            staged.replace(self.blob_path(blob))
        return blob


def check_path(path: str) -> str:
    """`path` itself, if it is a plain relative path inside a repo.

    Raises:
        InvalidNameError: an empty or absolute path, one with an empty, `.` or `..` part, or one
            with a backslash or a control character.
    """
    if _CONTROL_OR_BACKSLASH.search(path) or {"", ".", ".."} & set(path.split("/")):
        raise InvalidNameError(
            f"{path!r} is no path inside a repo; expected 'folder/file', with no '.', '..', empty "
            "part, backslash or control character."
        )
    return path


def _check_folders(tree: Mapping[str, Blob]) -> None:
    for path in tree:
        for folder in map(str, PurePosixPath(path).parents):
            if folder in tree:
                raise InvalidNameError(f"{folder!r} cannot be a file and the folder of {path!r}.")


def _open(source: bytes | Path) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()


def _write(path: Path, content: bytes) -> None:
    with _staged(path.parent) as file:
        file.write(content)
        file.close()
        Path(file.name).replace(path)


@contextmanager
def _staged(folder: Path) -> Iterator[BinaryIO]:
    """A temporary file in `folder`, for the caller to close and move; deleted if it does not."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{uuid.uuid4().hex}.tmp"
    try:
        with path.open("xb") as file:
            yield file
    finally:
        path.unlink(missing_ok=True)
