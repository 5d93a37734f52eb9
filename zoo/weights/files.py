"""Safetensors files: checkpoints opened as read-only views of the file, and written whole.

The `safetensors` library checks a file's header; the tensors are then views at the offsets that
the header gives, which no copy precedes. Nothing else is read here, and pickle never is.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import ml_dtypes
import numpy as np

from zoo.errors import AccessError, FileFormatError, NotFoundError, did_you_mean
from zoo.parsing import parse_json
from zoo.weights.disk import replacing

DTYPES: Mapping[str, np.dtype] = {
    name: np.dtype(kind)
    for name, kind in {
        "F64": np.float64,
        "F32": np.float32,
        "F16": np.float16,
        "BF16": ml_dtypes.bfloat16,
        "I64": np.int64,
        "I32": np.int32,
        "I16": np.int16,
        "I8": np.int8,
        "U64": np.uint64,
        "U32": np.uint32,
        "U16": np.uint16,
        "U8": np.uint8,
        "BOOL": np.bool_,
        "C64": np.complex64,
    }.items()
}
"""The dtypes that zoo reads and writes, by their name in a safetensors header."""

MAX_SHARD_SIZE = "5GB"  # of a file that is written, where nothing else is asked for
UNTRAINED = "tfzoo.untrained"
"""Key in the metadata of a safetensors file: the tensors that were never trained, as JSON."""
LARGEST_HEADER = 32 << 20  # bytes; 100,000 tensors have a third of it
_MOST_AXES, _MOST_ELEMENTS = 16, 1 << 56

_REMOTE = {"9p", "afs", "ceph", "cifs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}
_LOCAL_FUSE = {"fuse.fuse-overlayfs", "fuse.mergerfs"}


class Checkpoint(Mapping[str, np.ndarray]):
    """Tensors by name, over one file or the shards of one checkpoint.

    Each tensor is a read-only array that views the file; none is read before it is used. On a
    network file system, where mapping a file is slow, a tensor is read when it is asked for.

    A tensor that a module has several times is in a file once, and the metadata names the others
    (`safetensors.torch.save_model`). It is found by each of its names, and listed by the one.

    Attributes:
        paths: the files.
        metadata: the texts that the files carry about themselves; the first file wins.
        aliases: further names of tensors, and the name that each is listed by.
        untrained: names of the tensors that their files say were never trained.
    """

    def __init__(self, paths: Sequence[Path], prefixes: Mapping[Path, str] | None = None) -> None:
        self.paths = tuple(paths)
        self.metadata: dict[str, str] = {}
        self.untrained: frozenset[str] = frozenset()
        self._tensors: dict[str, _Tensor] = {}
        noted: dict[str, str] = {}
        for path in self.paths:
            tensors, metadata = _read_header(path)
            prefix = (prefixes or {}).get(path, "")
            tensors = {prefix + name: tensor for name, tensor in tensors.items()}
            if twice := sorted(self._tensors.keys() & tensors.keys()):
                raise FileFormatError(
                    f"{path} and {self._tensors[twice[0]].file.path} both hold "
                    f"{_listed(twice)}: they are not shards of one checkpoint."
                )
            self._tensors |= tensors
            self.metadata = {**metadata, **self.metadata}
            self.untrained |= {prefix + name for name in _untrained(path, metadata)}
            noted |= {prefix + other: prefix + name for other, name in metadata.items()}
        known = self._tensors
        self.aliases = {k: v for k, v in noted.items() if v in known and k not in known}

    @property
    def names(self) -> list[str]:
        """The names of the tensors, sorted."""
        return sorted(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, which is not read."""
        return self._tensor(name).shape

    def dtype(self, name: str) -> np.dtype:
        """The dtype of a tensor, which is not read."""
        return self._tensor(name).dtype

    def _tensor(self, name: str) -> _Tensor:
        name = self.aliases.get(name, name)
        if name not in self._tensors:
            raise KeyError(f"No tensor {name!r}.{did_you_mean(name, self._tensors)}")
        return self._tensors[name]

    def release(self) -> None:
        """Give back the memory of what was read so far; views stay valid, and read it again."""
        for file in {id(t.file): t.file for t in self._tensors.values()}.values():
            if file.mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
                file.mapped.madvise(mmap.MADV_DONTNEED)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensor(name).array()

    def __contains__(self, name: object) -> bool:
        return name in self._tensors or name in self.aliases

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"<Checkpoint of {len(self)} tensors in {', '.join(map(str, self.paths))}>"


def open_checkpoint(
    paths: str | os.PathLike | Sequence[str | os.PathLike],
    prefixes: Mapping[Path, str] | None = None,
) -> Checkpoint:
    """Open a safetensors file, or the shards of one checkpoint, and check every header.

    Args:
        prefixes: what stands before the names of a file's tensors, by file.

    Raises:
        NotFoundError: no such file.
        AccessError: a file that may not be read.
        FileFormatError: not safetensors, a damaged or truncated file, a dtype that is not read,
            or shards that hold the same tensor.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    return Checkpoint([Path(path) for path in given], prefixes)


def save_checkpoint(
    path: str | os.PathLike,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
    untrained: Collection[str] = (),
) -> None:
    """Write tensors to a safetensors file, which appears whole or not at all.

    Args:
        path: the file; one that is there already is replaced.
        tensors: arrays of any layout and byte order, in a dtype of `DTYPES`.
        metadata: texts to write into the header.
        untrained: names of tensors that were never trained, which the header then says.

    Raises:
        FileFormatError: a dtype that zoo does not write.
        DiskError: a full disk or a folder that cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    # The library writes an array's memory as it lies there: every other layout would be garbage.
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    if marked := sorted(arrays.keys() & set(untrained)):
        metadata = {**(metadata or {}), UNTRAINED: json.dumps(marked)}
    known = set(DTYPES.values())
    if bad := {
        n: a.dtype.name for n, a in arrays.items() if a.dtype.newbyteorder("=") not in known
    }:
        raise FileFormatError(f"No dtype of safetensors that zoo writes: {_listed(bad)}.")
    with replacing(Path(path)) as temporary:
        try:
            save_file(arrays, temporary, dict(metadata) if metadata else None)
        except SafetensorError as error:  # an OSError, of which only the text is left
            if code := re.search(r"\(os error (\d+)\)", str(error)):
                raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
            raise


@dataclass(frozen=True)
class _File:
    """An open file: `mapped` into memory, or None on a network file system."""

    path: Path
    mapped: mmap.mmap | None

    def read(self, offset: int, size: int) -> mmap.mmap | bytes:
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(size)


@dataclass(frozen=True)
class _Tensor:
    """Where a tensor lies: `offset` and `size` are in bytes, from the start of the file."""

    file: _File
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    size: int

    def array(self) -> np.ndarray:
        if self.file.mapped is None:
            return np.ndarray(self.shape, self.dtype, self.file.read(self.offset, self.size))
        view = np.ndarray(self.shape, self.dtype, self.file.mapped, self.offset)
        return view if view.flags.aligned else _read_only(view.copy())


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _read_header(path: Path) -> tuple[dict[str, _Tensor], dict[str, str]]:
    """The tensors and the metadata of one file, checked by the library first."""
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if LARGEST_HEADER < length < os.fstat(opened.fileno()).st_size:
                raise FileFormatError(
                    f"{path} has a header of {length} bytes; at most {LARGEST_HEADER} are read."
                )
            with safe_open(path, framework="numpy"):
                pass
            opened.seek(8)
            header = parse_json(opened.read(length), where=str(path), error=FileFormatError)
            local = not _is_remote(path)
            # The map keeps the file open by itself, and closes it with the last view.
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) if local else None
    except SafetensorError as error:
        raise FileFormatError(_complaint(path, str(error))) from error
    except FileNotFoundError as error:
        raise NotFoundError(f"No file {path}.") from error
    except PermissionError as error:
        raise AccessError(f"{path} may not be read by this user: {error.strerror}.") from error
    except OSError as error:
        if path.is_dir():
            raise FileFormatError(
                f"{path} is a folder; a safetensors file was expected."
            ) from error
        raise
    metadata = header.pop("__metadata__", None) or {}
    if unread := _unread_dtypes(header):
        raise FileFormatError(_complaint_of_dtypes(path, unread))
    file = _File(path, mapped)
    tensors = {name: _tensor(file, 8 + length, entry) for name, entry in header.items()}
    for name, tensor in tensors.items():
        _check_shape(name, tensor)
    return tensors, metadata


def _untrained(path: Path, metadata: Mapping[str, str]) -> list[str]:
    """The names of the tensors that a file says were never trained."""
    try:
        names = json.loads(metadata.get(UNTRAINED, "[]"))
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FileFormatError(
            f"{path} has {UNTRAINED!r} in its metadata, which is no list of names of tensors. "
            "Save the model again."
        )
    return names


def _tensor(file: _File, start: int, entry: Mapping[str, Any]) -> _Tensor:
    begin, end = entry["data_offsets"]
    dtype = DTYPES[entry["dtype"]]
    return _Tensor(file, dtype, tuple(entry["shape"]), start + begin, end - begin)


def _check_shape(name: str, tensor: _Tensor) -> None:
    """Raise `FileFormatError` for a shape that no array can have, or other than its bytes: the
    library lets sizes of any magnitude through beside one that is zero."""
    shape = tensor.shape
    count = math.prod(shape)
    if len(shape) > _MOST_AXES or math.prod(filter(None, shape)) > _MOST_ELEMENTS:
        found = f"the shape {str(shape)[:200]}, and no array has such a one"
    elif count * tensor.dtype.itemsize != tensor.size:
        found = f"the shape {shape} in {tensor.dtype}, and {tensor.size} bytes"
    else:
        return
    raise FileFormatError(f"{tensor.file.path} is damaged: {name!r:.200} has {found}.")


def _unread_dtypes(header: Mapping[str, Any]) -> dict[str, str]:
    """The dtypes that zoo does not read, by tensor."""
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    dtypes = {n: str(entry.get("dtype")) for n, entry in entries.items() if isinstance(entry, dict)}
    return {name: dtype for name, dtype in dtypes.items() if dtype not in DTYPES}


def _complaint_of_dtypes(path: Path, unread: Mapping[str, str]) -> str:
    return (
        f"{path} holds {len(unread)} tensors in a dtype that zoo does not read: {_listed(unread)}. "
        f"It reads {', '.join(DTYPES)}. Use the publisher's unquantised weights, or convert these "
        "tensors with the library that wrote them."
    )


def _listed(names: Sequence[str] | Mapping[str, str], most: int = 3) -> str:
    """The first few names, each with its value where there is one, and how many more there are."""
    shown = [f"{n!r} ({names[n]})" if isinstance(names, Mapping) else repr(n) for n in names]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


_OTHER_FORMATS: Sequence[tuple[bytes, str]] = (
    (
        rb"version https://git-lfs\.github\.com/",
        "a git-lfs pointer: the repo was cloned without its large files. Run `git lfs pull` there",
    ),
    (
        rb"(?i)\s*<(!doctype html|html|\?xml)",
        "a web page: the address answered with a page, not with the file. Check the address, and "
        "whether it asks for a login",
    ),
    (rb"PK\x03\x04", "a zip archive, as PyTorch (`.pt`, `.bin`) and Keras (`.keras`) write them"),
    (rb"\x80[\x02-\x05]", "a pickle, which runs code when it is read"),
    (rb"\x89HDF", "an HDF5 file"),
    (rb"GGUF", "a GGUF file"),
    (rb"\x1f\x8b", "a gzip archive"),
    (rb"\s*\{", "a JSON text"),
)


def _complaint(path: Path, reason: str) -> str:
    """What is wrong with a file that the library refuses, in terms of what it looks like."""
    with path.open("rb") as file:
        start = file.read(512)
        size = os.fstat(file.fileno()).st_size
    if not start:
        return f"{path} is empty; a safetensors file was expected."
    if start[8:9] != b"{":
        for pattern, what in _OTHER_FORMATS:
            if re.match(pattern, start):
                return f"{path} is not a safetensors file but {what}. Only safetensors is read."
        return f"{path} is not a safetensors file: it starts with {start[:16]!r}."
    length = int.from_bytes(start[:8], "little")
    if length > size - 8:
        return (
            f"{path} is damaged or truncated: its header declares {length} bytes, and {size - 8} "
            "follow. Fetch the file again."
        )
    if "not fully covered" in reason:
        return (
            f"{path} is damaged or truncated: the {size - 8 - length} bytes of data after the "
            "header are not what it describes. Fetch the file again."
        )
    if "unknown variant" in reason:
        with path.open("rb") as file:
            content = file.read(8 + length)[8:]
        header = parse_json(content, where=str(path), error=FileFormatError)
        return _complaint_of_dtypes(path, _unread_dtypes(header))
    reason = reason.removeprefix("Error while deserializing header: ")
    return f"{path} is not valid safetensors: {reason}. Fetch the file again."


def _is_remote(path: Path) -> bool:
    """Whether a file lies on a network file system, as far as the kernel's table of mounts says."""
    try:
        table = Path("/proc/self/mounts").read_text(errors="replace")
    except OSError:
        return False
    here = PurePosixPath(path.resolve())
    deepest, kind = -1, ""
    for _, folder, type_, *_ in (line.split(" ") for line in table.splitlines()):
        mount = PurePosixPath(folder.encode().decode("unicode_escape"))
        # A later mount on the same folder hides the earlier one.
        if len(mount.parts) >= deepest and here.is_relative_to(mount):
            deepest, kind = len(mount.parts), type_
    return kind in _REMOTE or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE)
