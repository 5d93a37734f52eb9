"""A folder of files at one commit, on a disk or on a hub, and which of its files are weights."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Protocol

from zoo.errors import FileFormatError, IntegrityError, NotFoundError, did_you_mean
from zoo.parsing import parse_json, read_bounded
from zoo.weights.disk import sha256_of

WEIGHTS = "model.safetensors"
_CANDIDATES = (WEIGHTS, "model.safetensors.index.json", "open_clip_model.safetensors")
_NOT_READ = (".bin", ".ckpt", ".h5", ".keras", ".msgpack", ".npz", ".onnx", ".pkl", ".pt", ".pth")
_NO_PART = {"", ".", ".."}
_NO_NAME = re.compile(r"[\\:\x00-\x1f\x7f\ud800-\udfff]")
_LONGEST, _DEEPEST = 255, 8  # bytes of a name; folders in each other


class Files(Protocol):
    """A folder of files at one commit.

    Attributes:
        origin: the repo (`org/name`) or the folder's path.
        commit: the commit that every file comes from; None for a folder on a disk.
        pull_request: the name of the pull request that the commit is of, where that was not asked
            for by name; None anywhere else.
    """

    origin: str
    commit: str | None
    pull_request: str | None

    def file(self, name: str, *, required: bool = True, sha256: str | None = None) -> Path | None:
        """The path of a file, fetched and verified; None where an optional one does not exist.

        Args:
            name: relative, with `/` between folders.
            required: whether a file that does not exist is an error.
            sha256: the hash that the content must have.

        Raises:
            NotFoundError: the folder has no such file.
            IntegrityError: the content is not the expected one.
        """

    def names(self) -> list[str]:
        """The names of the files, fetched or not; those in folders may be left out."""

    def weights(self, name: str | None = None, sha256: str | None = None) -> list[Path]:
        """The safetensors files of the model, fetched and verified: one file, or its shards.

        Args:
            name: the file, or the index of shards; None takes the first there is of
                `model.safetensors`, `model.safetensors.index.json` and
                `open_clip_model.safetensors`.
            sha256: the hash that this file must have.

        Raises:
            NotFoundError: no weights.
            FileFormatError: weights in other formats alone, or an index that cannot be trusted.
            IntegrityError: the content is not the expected one.
        """


class LocalFolder:
    """The files of a folder on a disk.

    Raises:
        NotFoundError: no such folder.
        FileFormatError: a file, not a folder.
    """

    commit: str | None = None
    pull_request: str | None = None

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path).expanduser()
        self.origin = str(self.path)
        if self.path.is_dir():
            return
        if self.path.exists():
            raise FileFormatError(
                f"{path} is a file; a folder with config.json and {WEIGHTS} was expected."
            )
        beside = [p.name for p in self.path.parent.glob("*/")] if self.path.parent.is_dir() else []
        raise NotFoundError(f"No folder {path}.{did_you_mean(self.path.name, beside)}")

    def file(self, name: str, *, required: bool = True, sha256: str | None = None) -> Path | None:
        path = self.path / check_name(name)
        if not path.is_file():
            if required:
                raise NotFoundError(missing(name, self.origin, self.names()))
            return None
        if sha256 and (found := sha256_of(path)) != sha256:
            raise IntegrityError(
                f"{path} has the sha256 {found}; expected {sha256}. The file was left as it is."
            )
        return path

    def weights(self, name: str | None = None, sha256: str | None = None) -> list[Path]:
        return find_weights(self, self.names, name, sha256)

    def names(self) -> list[str]:
        """The names of the files in the folder, sorted; those in its folders are left out."""
        return sorted(path.name for path in self.path.iterdir() if path.is_file())


def name_of_weights(files: Files) -> str:
    """The file that `Files.weights` takes first, which is not fetched.

    Raises:
        NotFoundError, FileFormatError: as `Files.weights`.
    """
    return _choose(files.origin, files.names(), "")


def is_weights(name: str) -> bool:
    """Whether `Files.weights` would take a file of this name."""
    return name in _CANDIDATES


def find_weights(
    files: Files,
    names: Callable[[], Iterable[str]],
    name: str | None,
    sha256: str | None,
    advice: str = "",
) -> list[Path]:
    """What `Files.weights` does, for a folder whose files `names` lists when it is needed.

    `advice` ends what is said where there are weights in other formats alone.
    """
    if name == WEIGHTS and not sha256 and files.file(name, required=False) is None:
        name = None  # it may be in shards
    if name is None:
        name = _choose(files.origin, list(names()), advice)
    elif name.endswith(_NOT_READ):
        raise FileFormatError(not_safetensors(files.origin, [name]))
    path = files.file(name, sha256=sha256)
    assert path is not None
    if not name.endswith(".index.json"):
        return [path]
    folder = PurePosixPath(name).parent
    shards = [files.file(str(folder / shard)) for shard in _shards(path)]
    return [shard for shard in shards if shard is not None]


def _choose(origin: str, names: list[str], advice: str) -> str:
    for candidate in _CANDIDATES:
        if candidate in names:
            return candidate
    if others := [name for name in names if name.endswith(_NOT_READ)]:
        raise FileFormatError(not_safetensors(origin, others) + advice)
    raise NotFoundError(missing(WEIGHTS, origin, names))


def _shards(index: Path) -> list[str]:
    """The file names in an index of shards, which nobody vouches for, sorted."""
    content = read_bounded(index, where=str(index), error=FileFormatError)
    data = parse_json(content, where=str(index), error=FileFormatError)
    table = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(table, dict):
        raise FileFormatError(
            f"{index} is no index of shards; a JSON text with a 'weight_map' of tensor names to "
            "file names was expected."
        )
    for shard in table.values():
        if not isinstance(shard, str) or not re.fullmatch(r"[\w-][\w.-]*\.safetensors", shard):
            raise FileFormatError(
                f"{index} names the shard {shard!r:.200}; only the plain name of a safetensors "
                "file beside the index is accepted. Nothing was read."
            )
    if not table:
        raise FileFormatError(f"{index} lists no shards.")
    return sorted(set(table.values()))


def check_name(name: str) -> str:
    """`name` itself, if it is a relative path that stays inside its folder.

    Raises:
        NotFoundError: it is not.
    """
    parts = name.split("/")
    odd = _NO_NAME.search(name) or _NO_PART & set(parts) or len(parts) > _DEEPEST
    if odd or max(len(part.encode()) for part in parts) > _LONGEST:
        raise NotFoundError(
            f"{name!r:.200} is no name of a file inside a repo or folder; 'file' or 'folder/file' "
            "was expected."
        )
    return name


def missing(name: str, origin: str, names: Iterable[str]) -> str:
    """What to say of a file that is not among the `names` of its folder."""
    names = sorted(names)
    there = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return (
        f"{origin} has no file {name!r}.{did_you_mean(name, names)} It has: {there or 'nothing'}."
    )


def not_safetensors(origin: str, found: list[str]) -> str:
    """What to say of weights in other formats alone."""
    return (
        f"{origin} has no safetensors weights, only {', '.join(sorted(found)[:5])}. zoo reads "
        "safetensors alone: the other formats can run code when they are read, or have no fixed "
        "layout. Load the model with the library that published it and save it as safetensors "
        "(`save_pretrained(folder, safe_serialization=True)` in transformers, "
        "`safetensors.torch.save_model` in PyTorch), or ask the publisher for such a file."
    )
