"""Contents in a folder, each under the sha256 of what it holds, and whole or not there at all.

    blobs/<2 hex digits>/<sha256>     contents, which never change
    incoming/                         what is still being received

A content is received next to the others, hashed on the way, put on the disk (fsync) and then moved
to its name. What a stopped process leaves in `incoming` is never looked at again, and `sweep`
removes it.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from zoo.hub.errors import ContentError, FullDiskError

CHUNK = 1 << 20


class Incoming:
    """A content that is being received: a file of its own, and the hash of what is in it."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.size = 0
        self._file = file
        self._sha256 = hashlib.sha256()

    def write(self, piece: bytes | memoryview) -> None:
        """Append a piece. Raises `FullDiskError`."""
        with full_disk_is_an_error():
            self._file.write(piece)
        self._sha256.update(piece)
        self.size += len(piece)

    @property
    def sha256(self) -> str:
        """Of what has been written so far."""
        return self._sha256.hexdigest()

    def check(self, sha256: str, size: int) -> None:
        """Raises `ContentError` unless that is what came."""
        if (self.sha256, self.size) != (sha256, size):
            raise ContentError(
                f"Expected {size} bytes with sha256 {sha256}; got {self.size} bytes with sha256 "
                f"{self.sha256}. They were thrown away: send the file again."
            )


class BlobFolder:
    """The contents of a hub. Safe to use from any number of threads and processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.incoming = root / "incoming"

    def path(self, sha256: str) -> Path:
        """Where the content with this hash is, or would be."""
        return self.root / "blobs" / sha256[:2] / sha256

    def size(self, sha256: str) -> int | None:
        """The size in bytes, or None where there is no such content."""
        try:
            return self.path(sha256).stat().st_size
        except FileNotFoundError:
            return None

    @contextmanager
    def receive(self) -> Iterator[Incoming]:
        """A content to be written and `keep`-ed; what is not kept is thrown away."""
        with full_disk_is_an_error():
            self.incoming.mkdir(parents=True, exist_ok=True)
        path = self.incoming / uuid.uuid4().hex
        try:
            with full_disk_is_an_error(), path.open("xb") as file:
                yield Incoming(path, file)
        finally:
            path.unlink(missing_ok=True)

    def keep(self, content: Incoming) -> None:
        """Give a received content its place."""
        with full_disk_is_an_error():
            content._file.flush()
        self.adopt(content.path, content.sha256)

    def adopt(self, file: Path, sha256: str) -> None:
        """Move a file of this file system, whose hash is known, to its place."""
        target = self.path(sha256)
        with full_disk_is_an_error():
            target.parent.mkdir(parents=True, exist_ok=True)
            _sync(file)
            file.replace(target)
            _sync(target.parent)

    def add(self, source: bytes | Path) -> tuple[str, int]:
        """Store a content, reading it once and a piece at a time; its sha256 and size."""
        with self.receive() as content, _open(source) as file:
            while piece := file.read(CHUNK):
                content.write(piece)
            self.keep(content)
        return content.sha256, content.size

    def all(self) -> Iterator[Path]:
        """Every content, in no order."""
        return self.root.glob("blobs/??/*")

    def leftovers(self, older_than: float) -> list[Path]:
        """What has been in `incoming`, untouched, for that many seconds."""
        return [path for path in self.incoming.glob("*") if age(path) >= older_than]


def age(path: Path) -> float:
    """Seconds since the file, or anything directly in the folder, was last written; 0 if gone."""
    try:
        newest = max((p.stat().st_mtime for p in [path, *path.glob("*")]), default=0.0)
    except FileNotFoundError:
        return 0.0
    return time.time() - newest


def disk_usage(path: Path) -> int:
    """The bytes in a file, or in all the files of a folder."""
    files = path.glob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def full_disk_is_an_error() -> Iterator[None]:
    """Turns the system's ways of saying that a disk is full into `FullDiskError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise FullDiskError from error
        raise


def _open(source: bytes | Path) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _sync(path: Path) -> None:
    """Wait until the file, or the names in the folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError) if path.is_dir() else full_disk_is_an_error():
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
