"""`zoo.lock`: write down exactly which files the models of a project consist of."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from zoo.errors import HandleError, NotFoundError
from zoo.loading.pulling import pull
from zoo.registry import registry
from zoo.weights.handle import parse_handle
from zoo.weights.lockfile import Lockfile


def lock(
    names: str | os.PathLike | Iterable[str | os.PathLike],
    lockfile: str | os.PathLike = "zoo.lock",
    *,
    endpoint: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike | None = None,
    offline: bool | None = None,
) -> Lockfile:
    """Pull models and write their files to a lockfile, which `zoo.load(lockfile=)` then enforces.

    Branches and tags are resolved anew: locking again moves a model to its newest commit. What
    the lockfile says of other repos stays. It is written once every model is there.

    Args:
        names: card names and hub repos, `org/name[@revision]`. A model that ships with zoo has
            nothing to lock.
        lockfile: made, or added to.
        endpoint, token, cache_dir, offline: see `Source`.

    Returns:
        All that the lockfile now holds.

    Raises:
        HandleError: a folder, or one repo at two commits.
        NotFoundError: no folder for the lockfile.
        ZooError: as `zoo.pull`, and where the lockfile cannot be read or written.
    """
    path = Path(lockfile).expanduser()
    if not path.absolute().parent.is_dir():
        raise NotFoundError(f"No folder {path.parent} for the lockfile; make it first.")
    content = Lockfile.read(path) if path.exists() else Lockfile(path=path)
    commits: dict[str, str | None] = {}
    for name in [names] if isinstance(names, str | os.PathLike) else names:
        if parse_handle(name, registry.is_name).kind == "path":
            raise HandleError(
                f"{name} is on this disk, and a lockfile is about what comes from elsewhere. "
                f"{path} was not changed."
            )
        pulled = pull(name, endpoint=endpoint, token=token, cache_dir=cache_dir, offline=offline)
        if pulled.locked and commits.setdefault(pulled.origin, pulled.commit) != pulled.commit:
            raise HandleError(
                f"{pulled.origin} was named at the commits {commits[pulled.origin]} and "
                f"{pulled.commit}; a lockfile holds one of each repo. {path} was not changed."
            )
        content.merge(pulled.locked)
    content.write(path)
    return content
