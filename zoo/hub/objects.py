"""The hub's nouns (repo, commit, blob), the changes that make a commit, and the rules for names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from zoo.errors import did_you_mean
from zoo.hub.errors import InvalidNameError, MissingEntryError, TakenError

LFS_THRESHOLD = 1_000_000  # bytes; larger files are kept as LFS objects, as every *.safetensors is
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_REF = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)*", re.ASCII)
_CONTROL_OR_BACKSLASH = re.compile(r"[\x00-\x1f\x7f\\]")
_MAX_REF = 200  # characters
_MAX_PATH = 1000  # bytes
_MAX_DEPTH = 50  # folders in each other; what is done for every folder of a path stays little
_MAX_NEAR = 1000  # names that are looked through for what somebody may have meant


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

    @classmethod
    def of_lfs(cls, sha256: str, size: int) -> Blob:
        return cls(sha256=sha256, size=size, oid=git_oid(_pointer(sha256, size)), lfs=True)

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid

    @property
    def pointer(self) -> bytes:
        """The text that git holds in the place of an LFS object."""
        return _pointer(self.sha256, self.size)


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """Where one state of a repo came from. `date` is ISO 8601."""

    id: str
    parent: str | None
    message: str
    author: str
    date: str


@dataclass(frozen=True, kw_only=True)
class Commit(LogEntry):
    """One state of a repo: all its files by path, and where it came from."""

    files: Mapping[str, Blob]

    def file(self, path: str) -> Blob:
        """The file at `path`. Raises `MissingEntryError`."""
        if path not in self.files:
            near = near_names(path, self.files)
            raise MissingEntryError(f"No {path!r} in commit {self.id}.{near}", self.id)
        return self.files[path]


@dataclass(frozen=True, kw_only=True)
class Repo:
    """A model repo: who may read it, and the commits that its branches and tags point at.

    Attributes:
        pulls: the head of each pull request, by its name as a revision, `refs/pr/1`.
    """

    id: str
    created: str
    private: bool = False
    gated: bool = False
    branches: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    pulls: Mapping[str, str] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        return self.id.partition("/")[0]

    @property
    def names(self) -> dict[str, str]:
        """The commit of every revision that has a name."""
        return {**self.tags, **self.branches, **self.pulls}

    def check_free(self, name: str) -> None:
        """Raises `TakenError` where a branch or tag has the name."""
        if name in self.branches or name in self.tags:
            raise TakenError(f"{self.id!r} has a branch or tag {name!r} already.")


@dataclass(frozen=True, kw_only=True)
class Pull:
    """A pull request: commits that are to become a part of `main`."""

    number: int
    title: str
    author: str
    created: str
    merged: bool = False
    closed: bool = False

    @property
    def status(self) -> str:
        return "merged" if self.merged else "closed" if self.closed else "open"

    @property
    def revision(self) -> str:
        """The name under which its newest commit is found."""
        return f"refs/pr/{self.number}"


@dataclass(frozen=True)
class Put:
    """A change of a commit: this content at this path."""

    path: str
    blob: Blob


@dataclass(frozen=True)
class Delete:
    """A change of a commit: the file, or the folder with all that is in it, goes."""

    path: str
    folder: bool = False


Change = Put | Delete


def changed(files: Mapping[str, Blob], changes: Iterable[Change], head: str) -> dict[str, Blob]:
    """The files after `changes`, one after the other, on those of the commit `head`.

    Raises:
        MissingEntryError: something to delete is not there.
        InvalidNameError: a path would be a file and a folder at once.
    """
    changes = list(changes)
    result = dict(files)
    # A folder that goes is not looked for among all the files, of which there may be as many.
    going = {change.path for change in changes if isinstance(change, Delete) and change.folder}
    inside: dict[str, set[str]] = {folder: set() for folder in going}

    def put(path: str) -> None:
        for folder in going and going.intersection(folders_of(path)):
            inside[folder].add(path)

    for path in result:
        put(path)
    for change in changes:
        if isinstance(change, Put):
            result[change.path] = change.blob
            put(change.path)
            continue
        gone = {change.path}
        if change.folder:
            gone, inside[change.path] = inside[change.path], set()
        if not gone & result.keys():
            raise MissingEntryError(f"No {change.path!r} to delete in commit {head}.", head)
        for path in gone:
            result.pop(path, None)
    for path in result:
        for folder in folders_of(path):
            if folder in result:
                raise InvalidNameError(f"{folder!r} cannot be a file and the folder of {path!r}.")
    return result


def folders_of(path: str) -> Iterator[str]:
    """The folders that a path lies in, the innermost first, without the root."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def near_names(name: str, names: Iterable[str]) -> str:
    """What `did_you_mean` says of some of the names, in little time however many there are."""
    short = (other for other in names if len(other) <= _MAX_REF)
    return did_you_mean(name[:_MAX_REF], islice(short, _MAX_NEAR))


def is_lfs(path: str, size: int) -> bool:
    """Whether a file is kept as an LFS object when nobody asks for the one or the other."""
    return path.endswith(".safetensors") or size > LFS_THRESHOLD


def is_repo_id(repo_id: str) -> bool:
    return _REPO_ID.fullmatch(repo_id) is not None


def check_repo_id(repo_id: str) -> str:
    """`repo_id` itself, if a repo may have it. Raises `InvalidNameError`."""
    if not is_repo_id(repo_id) or repo_id.endswith(".git") or ".." in repo_id:
        raise InvalidNameError(
            f"{repo_id!r} is no repo id; expected 'org/name' of letters, digits, '-', '_' and '.', "
            "with no '..' and no '.git' at the end."
        )
    return repo_id


def check_ref(name: str) -> str:
    """`name` itself, if a branch or tag may have it. Raises `InvalidNameError`."""
    looks_like_commit = re.fullmatch(r"[0-9a-f]{40}", name) is not None
    reserved = name == "HEAD" or name.startswith("refs/") or ".." in name
    if not _REF.fullmatch(name) or len(name) > _MAX_REF or looks_like_commit or reserved:
        raise InvalidNameError(
            f"{name[:_MAX_REF]!r} cannot name a branch or tag; expected letters, digits, '-', '_', "
            "'.' and single slashes, and no commit id."
        )
    return name


def check_path(path: str) -> str:
    """`path` itself, if it is a plain relative path inside a repo.

    Raises:
        InvalidNameError: an empty, absolute, very long or very deep path, one with an empty, `.`
            or `..` part, or one with a backslash or a control character.
    """
    if (
        _CONTROL_OR_BACKSLASH.search(path)
        or {"", ".", ".."} & set(path.split("/"))
        or path.count("/") > _MAX_DEPTH
        or len(path.encode("utf-8", "surrogatepass")) > _MAX_PATH
    ):
        raise InvalidNameError(
            f"{path[:_MAX_PATH]!r} is no path inside a repo; expected 'folder/file' of at most "
            f"{_MAX_PATH} bytes and {_MAX_DEPTH} folders, with no '.', '..', empty part, backslash "
            "or control character."
        )
    return path


def git_oid(content: bytes) -> str:
    """git's name for a file: the sha1 of its blob object."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _pointer(sha256: str, size: int) -> bytes:
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
    ).encode()
