"""From a handle to its card and its verified files, without building the model or TensorFlow."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import ConfigError, HandleError, NotFoundError
from zoo.preprocessing.text_spec import TextSpec
from zoo.registry import registry, sentence_config
from zoo.registry.card import ModelCard, WeightsFile
from zoo.registry.repo_config import card_from_config
from zoo.registry.transformers_text import TEXT
from zoo.weights.disk import sha256_of
from zoo.weights.endpoint import is_offline
from zoo.weights.folder import WEIGHTS, Files, LocalFolder
from zoo.weights.handle import Handle, Source, parse_handle
from zoo.weights.https import fetch_url
from zoo.weights.hub import Repository, open_repository
from zoo.weights.lockfile import LockedFile

MODULE = "sentence_dense"  # begins the names of the tensors of modules
BUNDLED = Path(__file__).parent / "bundled"


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """The files of a model, on this disk and verified.

    Attributes:
        card: the model's card.
        origin: the repo, address or folder that the files come from.
        commit: the one commit that every file comes from, for a hub.
        files: their paths.
        bytes: the size of all of them.
        locked: what a lockfile keeps of them; empty for files that no network was asked for.
    """

    card: ModelCard
    origin: str
    commit: str | None
    files: tuple[Path, ...]
    bytes: int
    locked: tuple[LockedFile, ...]


def pull(
    name: str | os.PathLike,
    *,
    revision: str | None = None,
    endpoint: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike | None = None,
    offline: bool | None = None,
    lockfile: str | os.PathLike | None = None,
) -> Pulled:
    """Fetch and verify every file that `zoo.load(name)` reads, and build nothing.

    A branch or tag is resolved anew, so that this also updates a model. Offline, it checks that
    the cache has everything.

    Args:
        name: as for `zoo.load`.
        revision, endpoint, token, cache_dir, offline, lockfile: see `Source`.

    Raises:
        ZooError: as `zoo.load`, where a file cannot be had or is not the expected one.
    """
    source = Source(
        revision=revision,
        endpoint=endpoint,
        token=token,
        cache_dir=cache_dir,
        offline=offline,
        lockfile=lockfile,
    )
    source = dataclasses.replace(source, refresh=not is_offline(source))
    card, files = find(parse_handle(name, registry.is_name), source)
    files = files or card_files(card, source)
    paths = weight_files(card, files, source)
    module_files(with_texts(card, files), files)
    locked: tuple[LockedFile, ...] = ()
    if isinstance(files, Repository):
        paths = [path for name in list(files.used) if (path := files.file(name))]
        locked = tuple(files.used.values())
    elif files is None:  # the card names an address
        locked = (_at_address(str(card.weights and card.weights.url), paths[0]),)
    return Pulled(
        card=card,
        origin=files.origin if files else locked[0].repo,
        commit=files.commit if files else None,
        files=tuple(paths),
        bytes=sum(path.stat().st_size for path in paths),
        locked=locked,
    )


def _at_address(url: str, path: Path) -> LockedFile:
    size = path.stat().st_size
    return LockedFile(repo=url, file=path.name, commit=None, sha256=sha256_of(path), size=size)


def find(handle: Handle, source: Source) -> tuple[ModelCard, Files | None]:
    """The card of a handle, and the folder it was read from (None: it is the registry's)."""
    if handle.kind == "card":
        return registry.info(handle.name), None
    if handle.kind == "url":
        raise HandleError(
            f"{handle.name} is one file, which names no architecture. Name it, and give the "
            f'address as weights: zoo.load("resnet50", weights="{handle.name}").'
        )
    files: Files
    if handle.kind == "hub":
        files = open_repository(handle.name, source, handle.revision)
    else:
        files = LocalFolder(handle.name)
    return _card_of(files), files


def _card_of(files: Files) -> ModelCard:
    """What the files of a folder say that they are."""
    config = read_json(files, "config.json")
    return card_from_config(
        config,
        origin=files.origin,
        preprocessor=_preprocessor(files, config),
        file=functools.partial(read_text, files),
    )


def with_texts(card: ModelCard, files: Files | None) -> ModelCard:
    """The card of a text model with its tokenizer, which no registry holds, and with the config,
    labels and task that stand beside it; other cards as they are."""
    spec = card.preprocessing
    if files is None or not isinstance(spec, TextSpec) or spec.tokenizer is not None:
        return card
    found = _card_of(files)
    return dataclasses.replace(
        card,
        config=found.config,
        preprocessing=found.preprocessing,
        task=found.task,
        labels=found.labels or card.labels,
    )


def module_files(card: ModelCard, files: Files | None) -> dict[Path, str]:
    """Weights in files of their own, such as the dense layers of sentence-transformers: what the
    names of their tensors begin with, by file."""
    if files is None or not card.config.get("pooling_dense"):
        return {}
    modules = sentence_config.read(functools.partial(read_text, files), origin=files.origin)
    found = {}
    for k, folder in enumerate(modules.folders if modules else ()):
        path = files.file(f"{folder}/{WEIGHTS}")
        assert path is not None
        found[path] = f"{MODULE}.{k}."
    return found


def _preprocessor(files: Files, config: Any) -> Any:
    """What an image processor's own file says; None where there is none."""
    if not isinstance(config, dict) or config.get("model_type") in TEXT:
        return None
    preprocessor = read_json(files, "preprocessor_config.json", required=False)
    if preprocessor is None and "model_type" in config:  # as processors of two halves save it
        both = read_json(files, "processor_config.json", required=False)
        preprocessor = (both or {}).get("image_processor")
    return preprocessor


def read_text(files: Files, name: str) -> str | None:
    """A text file of a folder; None where it does not exist.

    Raises:
        ConfigError: it is not UTF-8.
    """
    path = files.file(name, required=False)
    try:
        # with line ends as they are: a vocabulary may have a token that is one
        return None if path is None else path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{files.origin}/{name} is not text in UTF-8: {error}.") from error


def read_json(files: Files, name: str, *, required: bool = True) -> Any:
    """A JSON file of a folder; None where an optional one does not exist."""
    path = files.file(name, required=required)
    if path is None:
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{files.origin}/{name} is not valid JSON: {error}.") from error


def card_files(card: ModelCard, source: Source) -> Files | None:
    """The folder that a registry card's files are in; None where they are in no folder."""
    where = card.weights
    if where is None or where.repo is None:
        return None
    if where.bundled:
        return LocalFolder(BUNDLED / where.repo)
    return open_repository(where.repo, source, where.revision)


def weight_files(
    card: ModelCard,
    files: Files | None,
    source: Source,
    override: str | os.PathLike | None = None,
) -> list[Path]:
    """The verified local weight files: the caller's own, or the card's."""
    if override is not None:
        if isinstance(override, str) and override.startswith("https://"):
            return [fetch_url(override, source)]
        path = Path(override).expanduser()
        if not path.is_file():
            raise NotFoundError(f"weights={str(override)!r}: there is no such file.")
        return [path]
    where = card.weights or WeightsFile()
    if files is not None:
        return files.weights(where.file if card.weights else None, where.sha256)
    if where.url is not None:
        return [fetch_url(where.url, source, where.sha256)]
    raise NotFoundError(
        f"No safetensors weights of {card.name!r} are published. Build it with "
        "pretrained=False, give your own with weights=, or take another tag: "
        f"zoo.list_models({card.architecture + '*'!r})."
    )
