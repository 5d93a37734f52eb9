"""Where a model is published to: what a target is, and folders as targets."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from zoo.errors import AccessError, FileFormatError, IntegrityError
from zoo.publishing.report import Check
from zoo.weights.client import RemoteFile
from zoo.weights.disk import check_room, git_sha1_of, sha256_of

CONFIG, README = "config.json", "README.md"
Missing = Literal["repo", "branch"] | None


@dataclass(frozen=True, kw_only=True)
class File:
    """A file to publish; `name` is its path at the target, `size` is in bytes."""

    name: str
    path: Path
    size: int
    sha256: str

    @classmethod
    def of(cls, folder: Path, name: str) -> File:
        path = folder / name
        return cls(name=name, path=path, size=path.stat().st_size, sha256=sha256_of(path))

    def is_same(self, other: RemoteFile | None) -> bool:
        """Whether a target's file has this content, by the hash that the target gives."""
        if other is None or other.etag is None:
            return False
        if len(other.etag) == 40:  # git's, of a small file, which may have changed by now
            return git_sha1_of(self.path) == other.etag and sha256_of(self.path) == self.sha256
        return self.sha256 == other.etag


@dataclass(frozen=True, kw_only=True)
class There:
    """What is at a target now.

    Attributes:
        commit: the head of the branch; None for a folder, and for a repo yet to be made.
        files: by name.
        config: text of its `config.json`, where it has one.
        readme: text of its `README.md`, where it has one.
        checks: what the target itself has to say.
        missing: what has to be made first; `files` are those it will start with.
    """

    commit: str | None = None
    files: Mapping[str, RemoteFile] = field(default_factory=dict)
    config: str | None = None
    readme: str | None = None
    checks: tuple[Check, ...] = ()
    missing: Missing = None


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What a publication left: the commit and the address to look at; None where there is none."""

    commit: str | None = None
    url: str | None = None


class Target(Protocol):
    """A repo of a hub, or a folder.

    Attributes:
        name: what a person calls it.
        address: what `zoo.load` takes.
    """

    name: str
    address: str

    def check_may_write(self) -> None:
        """Refuse, before anything is done, what will certainly be refused when it is sent.

        Raises:
            AccessError: no token, or one that may not write there.
        """

    def look(self) -> There:
        """What is there. Nothing is changed."""

    def send(self, files: Sequence[File], remove: Collection[str], there: There) -> Sent:
        """Put files there and remove others, all of it or nothing.

        Raises:
            UploadError: it failed, or the target is no longer as `there` says.
            IntegrityError: what is there afterwards is not what was sent.
        """


class FolderTarget:
    """A folder on a disk, which is made if it is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser()
        self.name = str(path)
        self.address = f"./{self.path.resolve().name}"

    def check_may_write(self) -> None:
        above = next(p for p in (self.path, *self.path.absolute().parents) if p.exists())
        if not os.access(above, os.W_OK):
            raise AccessError(f"{self.path} cannot be written to: {above} may not be changed.")

    def look(self) -> There:
        if self.path.exists() and not self.path.is_dir():
            raise FileFormatError(f"{self.path} is a file; a folder to publish to was expected.")
        files = {
            name: RemoteFile((self.path / name).stat().st_size, sha256_of(self.path / name))
            for name in visible_files(self.path)
        }
        texts = {name: text_of(self.path / name) for name in (CONFIG, README) if name in files}
        return There(files=files, config=texts.get(CONFIG), readme=texts.get(README))

    def send(self, files: Sequence[File], remove: Collection[str], there: There) -> Sent:
        from zoo.saving.files import install, staging_in

        with staging_in(self.path) as staging:
            check_room(self.name, sum(file.size for file in files), staging)
            for file in files:
                copy = staging / file.name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.path, copy)
                if sha256_of(copy) != file.sha256:
                    raise changed_on_the_way(file, self.name)
            install(staging, self.path, [file.name for file in files], sorted(remove))
        return Sent(url=str(self.path))


def visible_files(folder: Path) -> list[str]:
    """The files of a folder and its folders, hidden ones left out, as relative paths, sorted."""
    paths = [(path, path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    hidden = {path for path, name in paths if any(part.startswith(".") for part in name.parts)}
    return sorted(name.as_posix() for path, name in paths if path not in hidden)


def text_of(path: Path) -> str:
    """The text of a file that may be anything."""
    return path.read_text(encoding="utf-8", errors="replace")


def changed_on_the_way(file: File, target: str) -> IntegrityError:
    return IntegrityError(
        f"{file.name} arrived at {target} with another content than was checked "
        f"(sha256 {file.sha256}): the file changed meanwhile, or the way to the target changes it. "
        "Publish again."
    )
