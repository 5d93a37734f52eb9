"""From a handle to its card and its verified files, without building the model or TensorFlow."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import (
    AccessError,
    ConfigError,
    DownloadError,
    FileFormatError,
    HandleError,
    NotFoundError,
    UnknownNameError,
)
from zoo.parsing import parse_json, read_bounded
from zoo.preprocessing.text_spec import TextSpec
from zoo.registry import registry, sentence_config
from zoo.registry.card import ModelCard, WeightsFile
from zoo.registry.repo_config import Described, describe
from zoo.weights.disk import sha256_of
from zoo.weights.endpoint import is_offline
from zoo.weights.folder import WEIGHTS, Files, LocalFolder, name_of_weights, not_safetensors
from zoo.weights.handle import Handle, Source, parse_handle
from zoo.weights.https import fetch_url
from zoo.weights.hub import Repository, open_repository
from zoo.weights.lockfile import LockedFile

MODULE = "sentence_module"  # begins the names of the tensors of modules
BUNDLED = Path(__file__).parents[1] / "bundled"


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """The files of a model, on this disk and verified.

    Attributes:
        card: the model's card.
        origin: the repo, address or folder that the files come from.
        commit: the one commit that every file comes from, for a hub.
        pull_request: `refs/pr/4` where that is of the hub's converter, since `main` has no weights.
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
    pull_request: str | None = None


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
    fetched = fetch(name, source)
    card, files, paths = fetched.card, fetched.files, list(fetched.paths)
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
        pull_request=files.pull_request if files else None,
    )


def _at_address(url: str, path: Path) -> LockedFile:
    size = path.stat().st_size
    return LockedFile(repo=url, file=path.name, commit=None, sha256=sha256_of(path), size=size)


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What a model is built from.

    Attributes:
        card: with what stands beside the weights, such as the tokenizer.
        files: the folder of the weights; None where they are in none, or of no one's.
        paths: the verified files of weights.
        modules: files of weights of parts, and what the names of their tensors begin with.
    """

    card: ModelCard
    files: Files | None
    paths: tuple[Path, ...] = ()
    modules: Mapping[Path, str] = field(default_factory=dict)


def fetch(
    name: str | os.PathLike,
    source: Source,
    *,
    pretrained: bool = True,
    weights: str | os.PathLike | None = None,
) -> Fetched:
    """Find a model and fetch the files that `zoo.load` reads, with no model built yet.

    Args:
        name, pretrained, weights: as for `zoo.load`.

    Raises:
        ZooError: as `zoo.load`, where a name is none, or a file cannot be had.
    """
    found = find(parse_handle(name, registry.is_name), source)
    if weights is not None:
        found = dataclasses.replace(found, files=None)
    elif pretrained:
        found = located(found, source)
    paths = weight_files(found, source, weights) if pretrained else []
    return Fetched(
        card=found.card, files=found.files, paths=tuple(paths), modules=module_files(found)
    )


@dataclass(frozen=True, kw_only=True)
class Found:
    """A model whose weights are not fetched.

    Attributes:
        card: the model's card.
        files: the folder of its files; None where they are in none, or were not looked for.
        folders: of the modules of sentence-transformers that come after the pooling.
    """

    card: ModelCard
    files: Files | None = None
    folders: tuple[str, ...] = ()


def find(handle: Handle, source: Source) -> Found:
    """The card of a handle, and the folder that it was read from, if it is not the registry's."""
    try:
        return _found(handle, source)
    except (UnknownNameError, NotFoundError, AccessError, DownloadError) as error:
        if handle.kind != "path" and (folder := Path(handle.name)).is_dir():
            message = f"{error} There is a folder ./{folder}: with the ./ it is that one."
            raise type(error)(message) from error
        raise


def located(found: Found, source: Source) -> Found:
    """A model of the registry with the folder of its files, and with what stands there and no
    registry holds: the tokenizer of a text model, beside the config, labels and task."""
    if found.files is not None:
        return found
    card, files = found.card, card_files(found.card, source)
    if files is None or not needs_texts(card):
        return Found(card=card, files=files)
    read = _described(files)
    kept = ("config", "preprocessing", "task", "idle")
    beside = {name: getattr(read.card, name) for name in kept}
    card = dataclasses.replace(card, **beside, labels=read.card.labels or card.labels)
    return Found(card=card, files=files, folders=read.folders)


def needs_texts(card: ModelCard) -> bool:
    """Whether a card is of a model of texts, and without its tokenizer."""
    return isinstance(card.preprocessing, TextSpec) and card.preprocessing.tokenizer is None


def _found(handle: Handle, source: Source) -> Found:
    if handle.kind == "card":
        return Found(card=registry.info(handle.name))
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
    read = _described(files)
    return Found(card=read.card, files=files, folders=read.folders)


def _described(files: Files) -> Described:
    """What the files of a folder say that they are."""
    config = read_json(files, "config.json")
    return describe(config, origin=files.origin, file=functools.partial(read_text, files))


def with_weights(found: Found) -> ModelCard:
    """The card of a repo or folder with the place of its weights, which are not fetched.

    Raises:
        NotFoundError, FileFormatError: there are none that zoo reads.
    """
    card, files = found.card, found.files
    if card.weights is not None or files is None:
        return card
    where = WeightsFile(
        repo=files.origin if files.commit else None,
        file=name_of_weights(files),
        revision=files.commit,
        pull_request=files.pull_request,
    )
    return dataclasses.replace(card, weights=where)


def module_files(found: Found) -> dict[Path, str]:
    """Weights in files of their own, such as the dense layers of sentence-transformers: what the
    names of their tensors begin with, by file."""
    if found.files is None or not found.folders:
        return {}
    kinds = (kind for kind, *_ in found.card.config.get("modules") or ())
    return {
        module_weights(found.files, folder): f"{MODULE}.{k}."
        for k, (kind, folder) in enumerate(zip(kinds, found.folders, strict=True))
        if kind in sentence_config.WEIGHTED
    }


def module_weights(files: Files, folder: str) -> Path:
    """The weights of a module in a folder of its own.

    Raises:
        FileFormatError: there are only some in another format.
        NotFoundError: there are none.
    """
    path = files.file(f"{folder}/{WEIGHTS}", required=False)
    if path is None and files.file(f"{folder}/pytorch_model.bin", required=False) is not None:
        raise FileFormatError(not_safetensors(f"{files.origin}/{folder}", ["pytorch_model.bin"]))
    path = path or files.file(f"{folder}/{WEIGHTS}")
    assert path is not None
    return path


def read_text(files: Files, name: str) -> str | None:
    """A text file of a folder; None where it does not exist.

    Raises:
        ConfigError: it is not UTF-8, or larger than any such file of a model.
        AccessError: it may not be read.
    """
    path = files.file(name, required=False)
    if path is None:
        return None
    try:
        # with line ends as they are: a vocabulary may have a token that is one
        return read_bounded(path, where=f"{files.origin}/{name}").decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{files.origin}/{name} is not text in UTF-8: {error}.") from error


def read_json(files: Files, name: str, *, required: bool = True) -> Any:
    """A JSON file of a folder; None where an optional one does not exist."""
    path = files.file(name, required=required)
    where = f"{files.origin}/{name}"
    return None if path is None else parse_json(read_bounded(path, where=where), where=where)


def card_files(card: ModelCard, source: Source) -> Files | None:
    """The folder that a registry card's files are in; None where they are in no folder."""
    where = card.weights
    if where is None or where.repo is None:
        return None
    if where.bundled:
        return LocalFolder(BUNDLED / where.repo)
    return open_repository(where.repo, source, where.revision, where.file, where.pull_request)


def weight_files(
    found: Found, source: Source, override: str | os.PathLike | None = None
) -> list[Path]:
    """The verified local weight files: the caller's own, or the card's."""
    card, files = found.card, found.files
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
