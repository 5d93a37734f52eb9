"""The files of a model: weights in shards, and a folder that changes as a whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import DiskError, OptionError, ZooError
from zoo.options import count
from zoo.weights.files import MAX_SHARD_SIZE, save_checkpoint

if TYPE_CHECKING:
    from huggingface_hub import StateDictSplit

INDEX = "model.safetensors.index.json"
_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")


def write_weights(
    tensors: Mapping[str, np.ndarray],
    folder: Path,
    max_shard_size: int | str = MAX_SHARD_SIZE,
    metadata: Mapping[str, str] | None = None,
    untrained: Collection[str] = (),
) -> list[str]:
    """Write `model.safetensors`, or its shards with an index. Returns the names of the files.

    Args:
        untrained: names of tensors that were never trained.
    """
    split = shards(tensors, max_shard_size)
    metadata = {**(metadata or {}), "format": "pt"}
    for name, held in split.filename_to_tensors.items():
        part = {n: tensors[n] for n in held}
        save_checkpoint(folder / name, part, metadata, untrained)
    names = list(split.filename_to_tensors)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        names.append(INDEX)
    return names


def shards(tensors: Mapping[str, np.ndarray], max_shard_size: int | str) -> StateDictSplit:
    """Which tensor goes into which file.

    Raises:
        OptionError: a size that is none.
    """
    from huggingface_hub import split_state_dict_into_shards_factory

    if not isinstance(max_shard_size, str):
        max_shard_size = count("max_shard_size", max_shard_size)
    try:
        return split_state_dict_into_shards_factory(
            dict(tensors),
            get_storage_size=lambda array: array.nbytes,
            filename_pattern="model{suffix}.safetensors",
            max_shard_size=max_shard_size,
        )
    except ValueError as error:
        raise OptionError(
            f"max_shard_size={max_shard_size!r} is no size; bytes or a text such as '5GB' were "
            "expected."
        ) from error


def is_checkpoint(name: str) -> bool:
    """Whether a file of this name is a checkpoint, one of its shards, or their index."""
    return _WEIGHTS.fullmatch(name) is not None


@contextmanager
def staging_in(folder: Path) -> Iterator[Path]:
    """A temporary folder inside `folder`, which is made, and goes again if the block fails.

    Raises:
        DiskError: `folder` cannot be written.
    """
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as staging:
            yield Path(staging)
    except BaseException as error:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, ZooError):
            raise DiskError(
                f"{folder} could not be written ({error.strerror or error}); nothing was changed "
                "in it. Check its permissions and the free space."
            ) from error
        raise


def install(staging: Path, folder: Path, names: Sequence[str], remove: Sequence[str] = ()) -> None:
    """Move the finished files `names` of `staging` into `folder`, which is on the same disk.

    They replace the files of their names and the checkpoint that lies there; the files `remove`
    go. If one cannot be moved, all that was there comes back.
    """
    stale = [p.name for p in folder.iterdir() if is_checkpoint(p.name)]
    present = [n for n in dict.fromkeys([*names, *remove, *stale]) if (folder / n).exists()]
    kept = staging / ".before"
    done: list[tuple[Path, Path]] = []
    try:
        for name in present:
            _move(folder / name, kept / name, done)
        for name in names:
            _move(staging / name, folder / name, done)
    except OSError:
        for source, target in reversed(done):
            target.replace(source)
        raise


def _move(source: Path, target: Path, done: list[tuple[Path, Path]]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    done.append((source, target))
