"""What zoo asks of a disk: to replace a file whole or not at all, and to hash one."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import DiskError

MAKE_ROOM = (
    "Free some space (`zoo cache prune` removes models that are no longer used), or use another "
    "folder (`cache_dir=`, or the environment variable HF_HOME)."
)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


def disk_error(error: OSError, path: Path) -> DiskError | None:
    """The `DiskError` for a disk that is full or cannot be written; None for any other fault."""
    if error.errno in _FULL:
        return DiskError(
            f"No room to write {path}: {error.strerror}. Nothing half-written was left behind. "
            + MAKE_ROOM
        )
    if error.errno in _READ_ONLY:
        return DiskError(
            f"{path} cannot be written: {error.strerror}. Use a folder that you may write "
            "(for the cache: `cache_dir=`, or the environment variable HF_HOME)."
        )
    return None


def check_room(what: str, size: int | None, folder: Path) -> None:
    """Raise `DiskError` if the disk of `folder`, which may not exist yet, has no `size` bytes."""
    free = shutil.disk_usage(next(f for f in (folder, *folder.parents) if f.exists())).free
    if size is not None and size > free:
        raise DiskError(
            f"{what} takes {size / 1e6:,.1f} MB, and the disk of {folder} has {free / 1e6:,.1f} MB "
            f"left. Nothing was downloaded. {MAKE_ROOM}"
        )


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the faults of a full or read-only disk, met while writing `path`, into `DiskError`."""
    try:
        yield
    except OSError as error:
        if found := disk_error(error, path):
            raise found from error
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, which takes its place when the block ends without error.

    The file has the mode that the umask gives, whatever the block did to it, and its content is on
    the disk before it gets its name. After an error there is no trace of it.

    Raises:
        DiskError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name[:80]}.{uuid.uuid4().hex[:12]}.tmp")
    with disk_errors(path):
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            mode = temporary.stat().st_mode
            yield temporary
            temporary.chmod(mode)
            move_into_place(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def move_into_place(finished: Path, path: Path) -> None:
    """Give a finished file of the same folder its name, once its content is on the disk."""
    _sync(finished)
    finished.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, by which hubs name large files."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_sha1_of(path: Path) -> str:
    """The sha1 that git gives a file's content, by which hubs name small files."""
    header = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: header).hexdigest()
