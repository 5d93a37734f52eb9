"""What is published: the files of a model, in a folder of their own, just as they will be sent."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from zoo.loading import load
from zoo.model import Model
from zoo.publishing.target import CONFIG, README, File, visible_files
from zoo.registry import registry
from zoo.registry.repo_config import license_section
from zoo.saving import check_whole, write
from zoo.saving.files import INDEX, shards, write_weights
from zoo.saving.readme import Facts, readme
from zoo.weights.files import open_checkpoint
from zoo.weights.folder import LocalFolder, is_weights
from zoo.weights.handle import parse_handle

_COMPANIONS = (
    "preprocessor_config.json",
    "processor_config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "*_Pooling/config.json",
    "*_Dense/config.json",
    "*_Dense/model.safetensors",
    "*_Normalize/config.json",
    "LICENSE*",
    "NOTICE*",
)
"""Files that belong to a model beside weights, config and README, as patterns of their paths."""


@dataclass(frozen=True, kw_only=True)
class Staged:
    """All the files to publish.

    Attributes:
        folder: holds them, and nothing else.
        model: what they have to give back.
        files: by name.
        left_out: files of the source that are not published, as relative paths.
    """

    folder: Path
    model: Model
    files: Mapping[str, File]
    left_out: tuple[str, ...] = ()


def stage(
    source: Model | str | os.PathLike,
    folder: Path,
    address: str,
    facts: Facts,
    max_shard_size: int | str,
) -> Staged:
    """Gather the files to publish in the empty `folder`.

    A model is written as `zoo.save` does. Of a folder, the files that belong to its model are
    taken as they are, but for the README, whose gaps are filled, and weights above the limit.

    Args:
        address: what `zoo.load` will take.
        facts: what the author knows; its licence is also put into the config.
        max_shard_size: see `zoo.save`.

    Raises:
        ZooError: what `zoo.load` raises for a folder, and `zoo.save` for a model.
    """
    left_out: tuple[str, ...] = ()
    if (
        isinstance(source, str | os.PathLike)
        and (handle := parse_handle(source, registry.is_name)).kind == "path"
    ):
        origin = LocalFolder(handle.name)
        model = load(origin.path)
        names = _take(origin, folder, max_shard_size)
        left_out = tuple(sorted(set(visible_files(origin.path)) - set(names)))
    else:
        model = load(source) if isinstance(source, str | os.PathLike) else source
        check_whole(model)
        names = write(model, folder, address, max_shard_size)
    if facts.license:
        _put_license(folder / CONFIG, facts.license)
    _put_readme(folder / README, model, address, facts, whole=INDEX not in names)
    files = {name: File.of(folder, name) for name in sorted({*names, README})}
    return Staged(folder=folder, model=model, files=files, left_out=left_out)


def _take(origin: LocalFolder, folder: Path, max_shard_size: int | str) -> list[str]:
    """Put the files of a model's folder into `folder`. Returns their names."""
    weights = origin.weights()
    names = [path.name for path in weights]
    if not is_weights(names[0]):
        names.append(INDEX)
    elif shards(checkpoint := open_checkpoint(weights), max_shard_size).is_sharded:
        names = write_weights(
            checkpoint, folder, max_shard_size, checkpoint.aliases, checkpoint.untrained
        )
    names += [name for name in visible_files(origin.path) if _belongs(name)]
    for name in names:
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            _place(origin.path / name, folder / name)
    return names


def _place(source: Path, target: Path) -> None:
    """Link weights, which may fill half of a disk; copy the rest, some of which is changed."""
    if source.suffix == ".safetensors":
        with suppress(OSError):  # of a file system or user without links
            target.symlink_to(source.resolve())
            return
    shutil.copyfile(source, target)


def _belongs(name: str) -> bool:
    path = PurePosixPath(name)
    return any(
        path.match(pattern) and len(path.parts) == pattern.count("/") + 1
        for pattern in (CONFIG, README, *_COMPANIONS)
    )


def _put_license(path: Path, license: str) -> None:
    """Write a licence where timm's form of the config, or ours, has it."""
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "architecture" in config:
        license_section(config)["license"] = license
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _put_readme(path: Path, model: Model, address: str, facts: Facts, *, whole: bool) -> None:
    before = path.read_text(encoding="utf-8") if path.exists() else None
    text = readme(model, address, facts, before=before, whole=whole)
    path.write_text(text, encoding="utf-8")
