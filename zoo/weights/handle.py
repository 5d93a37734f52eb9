"""What the user asked for: the grammar of handles, and the hub arguments of `load`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from zoo.errors import HandleError

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, kw_only=True)
class Handle:
    """A parsed handle: a card name, a hub repo (with revision), a local path or an address."""

    kind: Literal["card", "hub", "path", "url"]
    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where and how files are fetched: the hub arguments of `load`, grouped once.

    Args:
        revision: branch, tag or commit; None is the card's own, else `main`.
        endpoint: base address of the hub; None is `HF_ENDPOINT`, else the public hub.
        token: access token for that endpoint; None is `HF_TOKEN` or the stored login, and only
            for the endpoint these belong to. `False` sends none.
        cache_dir: root of the cache; None is the standard Hugging Face cache for the public hub
            and a folder of its own for every other endpoint.
        offline: use the cache alone; None follows `HF_HUB_OFFLINE`.
        lockfile: a `zoo.lock` that every file must match.
        refresh: resolve moving revisions anew.
    """

    revision: str | None = None
    endpoint: str | None = None
    token: str | bool | None = field(default=None, repr=False)
    cache_dir: str | os.PathLike | None = None
    offline: bool | None = None
    lockfile: str | os.PathLike | None = None
    refresh: bool = False


def parse_handle(text: str | os.PathLike, is_name: Callable[[str], bool]) -> Handle:
    """Parse what the user passed to `load`. Nothing is guessed from the disk.

    Args:
        text: a name, `org/name[@revision]`, `hf://org/name[@revision]`, a path that starts with
            `./`, `../`, `/` or `~`, a `Path`, or an `https://` address.
        is_name: tells whether a string is a known card, architecture or deprecated name.

    Raises:
        HandleError: none of these.
    """
    if isinstance(text, os.PathLike):
        return Handle(kind="path", name=str(Path(text).expanduser()))
    if not isinstance(text, str):
        raise HandleError(f"A handle is a string or a path; got {type(text).__name__}.")
    if is_name(text):
        return Handle(kind="card", name=text)
    if text.startswith(("./", "../", "/", "~")) or text in (".", ".."):
        return Handle(kind="path", name=str(Path(text).expanduser()))
    if text.startswith("https://"):
        return Handle(kind="url", name=text)
    if text.startswith("http://"):
        raise HandleError(f"{text!r} is plain http, which anyone on the way can change. Use https.")
    return _parse_repo(text)


def _parse_repo(text: str) -> Handle:
    repo, _, revision = text.removeprefix("hf://").partition("@")
    if _REPO.fullmatch(repo) and (revision or "@" not in text):
        return Handle(kind="hub", name=repo, revision=revision or None)
    if "/" not in text and "@" not in text and "\\" not in text:
        return Handle(kind="card", name=text)  # an unknown name: the registry says which are near
    raise HandleError(
        f"{text!r} is no model name and no handle. Handles are 'architecture[.tag]', "
        "'org/name[@revision]', 'hf://org/name[@revision]', a path that starts with './', '../', "
        "'/' or '~', or an 'https://' address."
    )
