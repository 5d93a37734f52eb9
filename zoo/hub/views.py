"""What the protocol's JSON looks like: repos, commits and files as the hub describes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from zoo.hub.errors import MissingEntryError
from zoo.hub.objects import Blob, Commit, LogEntry, Pull, Repo, folders_of

JsonDict = dict[str, Any]
_FILES_OF_HISTORY = 500_000  # that are looked at for the commits that changed some of them


def model(repo: Repo, commit: Commit, card: JsonDict, *, blobs: bool) -> JsonDict:
    """A model and its files: by name, and with size and hashes where `blobs` is asked for.

    Its tags come from `card`, the front matter of its README.md.
    """
    named = {key: card[key] for key in ("library_name", "pipeline_tag") if _is_text(card.get(key))}
    listed = card.get("tags")
    tags = [tag for tag in listed if _is_text(tag)] if isinstance(listed, list) else []
    tags += named.values()
    tags += [f"license:{card['license']}"] if _is_text(card.get("license")) else []
    return {
        "id": repo.id,
        "modelId": repo.id,
        "author": repo.owner,
        "sha": commit.id,
        "private": repo.private,
        "gated": "manual" if repo.gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "createdAt": repo.created,
        "lastModified": commit.date,
        "tags": list(dict.fromkeys(tags)),
        **named,
        "siblings": [
            {"rfilename": path, **(_sibling(blob) if blobs else {})}
            for path, blob in sorted(commit.files.items())
        ],
    }


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _sibling(blob: Blob) -> JsonDict:
    lfs = {"sha256": blob.sha256, "size": blob.size, "pointerSize": len(blob.pointer)}
    return {"size": blob.size, "blobId": blob.oid, **({"lfs": lfs} if blob.lfs else {})}


def tree(commit: Commit, folder: str, *, recursive: bool) -> list[JsonDict]:
    """The files and folders in `folder` (the root is empty), sorted by path.

    Raises:
        MissingEntryError: the commit has no such folder.
    """
    prefix = f"{folder}/" if folder else ""
    inside = {path: blob for path, blob in commit.files.items() if path.startswith(prefix)}
    if folder and not inside:
        raise MissingEntryError(f"No folder {folder!r} in commit {commit.id}.", commit.id)
    entries = [_file(path, blob) for path, blob in inside.items()]
    folders = {f for path in inside for f in folders_of(path) if f.startswith(prefix)}
    entries += _folders(folders, inside)
    if not recursive:
        entries = [e for e in entries if "/" not in e["path"].removeprefix(prefix)]
    return sorted(entries, key=lambda entry: entry["path"])


def paths(commit: Commit, wanted: Iterable[str]) -> list[JsonDict]:
    """The wanted files and folders, without those that the commit has not."""
    names = dict.fromkeys(wanted)
    entries = {path: _file(path, commit.files[path]) for path in names if path in commit.files}
    entries |= {entry["path"]: entry for entry in _folders(set(names), commit.files)}
    return [entries[path] for path in names if path in entries]


def _file(path: str, blob: Blob) -> JsonDict:
    lfs = {"oid": blob.sha256, "size": blob.size, "pointerSize": len(blob.pointer)}
    entry = {"type": "file", "oid": blob.oid, "size": blob.size, "path": path}
    return {**entry, "lfs": lfs} if blob.lfs else entry


def _folders(wanted: AbstractSet[str], files: Mapping[str, Blob]) -> list[JsonDict]:
    return [
        {"type": "directory", "oid": oid, "size": 0, "path": path}
        for path, oid in folder_oids(wanted, files).items()
    ]


def folder_oids(wanted: AbstractSet[str], files: Mapping[str, Blob]) -> dict[str, str]:
    """The oid of every wanted folder that there is, in one walk over the files.

    It is a hash of what is in the folder, as git's is, though not the same one.
    """
    hashes: dict[str, Any] = {}
    for path, blob in sorted(files.items()):
        line = f"{path}\0{blob.oid}\n".encode()
        for folder in folders_of(path):
            if folder in wanted:
                hashes.setdefault(folder, hashlib.sha1()).update(line)
    return {folder: found.hexdigest() for folder, found in hashes.items()}


def oids(wanted: AbstractSet[str], files: Mapping[str, Blob]) -> dict[str, str]:
    """The oid of every wanted file and folder that there is."""
    of_files = {path: files[path].oid for path in wanted if path in files}
    return {**folder_oids(wanted, files), **of_files}


def add_last_commits(entries: Iterable[JsonDict], history: Iterable[Commit]) -> None:
    """Give each entry of the first commit of `history` (newest first) the one that changed it.

    Only so many files are looked at: what has not changed in all of these commits gets none.
    """
    unchanged = {entry["path"]: entry for entry in entries}
    now: dict[str, str] = {}
    left = _FILES_OF_HISTORY
    for commit in history:
        then = oids(unchanged.keys(), commit.files)
        now = now or then
        unchanged = {p: entry for p, entry in unchanged.items() if then.get(p) == now[p]}
        left -= len(commit.files)
        if not unchanged or left < 0:
            break
        line = commit_line(commit)
        for entry in unchanged.values():
            entry["lastCommit"] = {key: line[key] for key in ("id", "title", "date")}
    else:
        return
    for entry in unchanged.values():
        entry.pop("lastCommit", None)


def commit_line(commit: LogEntry) -> JsonDict:
    """A commit as the log shows it: the title is the message's first line."""
    title, _, message = commit.message.partition("\n")
    return {
        "id": commit.id,
        "title": title,
        "message": message.strip(),
        "authors": [{"user": commit.author}],
        "date": commit.date,
    }


def refs(repo: Repo) -> JsonDict:
    """The branches, tags and pull requests of a repo."""

    def lines(kind: str, names: Iterable[tuple[str, str]]) -> list[JsonDict]:
        return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": c} for n, c in names]

    return {
        "branches": lines("heads", sorted(repo.branches.items())),
        "tags": lines("tags", sorted(repo.tags.items())),
        "converts": [],
        "pullRequests": [
            {"name": name, "ref": name, "targetCommit": commit}
            for name, commit in sorted(repo.pulls.items())
        ],
    }


def pull(repo: Repo, pull: Pull) -> JsonDict:
    """A pull request, as lists show it."""
    return {
        "num": pull.number,
        "title": pull.title,
        "author": {"name": pull.author},
        "createdAt": pull.created,
        "status": pull.status,
        "repo": {"name": repo.id, "type": "model"},
        "isPullRequest": True,
    }
