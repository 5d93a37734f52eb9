"""What the protocol's JSON looks like: repos, commits and files as the hub describes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

import yaml

from zoo.hub.errors import MissingEntryError
from zoo.hub.objects import Blob, Commit, Repo

JsonDict = dict[str, Any]


def model(repo: Repo, commit: Commit, readme: bytes, *, blobs: bool) -> JsonDict:
    """A model and its files: by name, and with size and hashes where `blobs` is asked for.

    Its tags come from the front matter of its README.md.
    """
    card = front_matter(readme)
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


def front_matter(readme: bytes) -> JsonDict:
    """The YAML block that a README.md starts with, every scalar as a string; else nothing."""
    try:
        content = load_front_matter(readme.decode("utf-8", "replace"))
    except (yaml.YAMLError, RecursionError):  # the hub serves a repo whose card is broken, too
        return {}
    return content if isinstance(content, dict) else {}


def load_front_matter(readme: str) -> Any:
    """What is in the YAML block, every scalar as a string. Raises `yaml.YAMLError`."""
    start, _, rest = readme.partition("\n")
    block, end, _ = rest.partition("\n---")
    if start.rstrip() != "---" or not end:
        return {}
    return yaml.load(block, Loader=yaml.BaseLoader)


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
    folders = {str(f) for path in inside for f in PurePosixPath(path).parents}
    entries += [_folder(f, commit) for f in folders if f != "." and f.startswith(prefix)]
    if not recursive:
        entries = [e for e in entries if "/" not in e["path"].removeprefix(prefix)]
    return sorted(entries, key=lambda entry: entry["path"])


def paths(commit: Commit, wanted: Iterable[str]) -> list[JsonDict]:
    """The wanted files and folders, without those that the commit has not."""
    entries = {entry["path"]: entry for entry in tree(commit, "", recursive=True)}
    return [entries[path] for path in wanted if path in entries]


def _file(path: str, blob: Blob) -> JsonDict:
    lfs = {"oid": blob.sha256, "size": blob.size, "pointerSize": len(blob.pointer)}
    entry = {"type": "file", "oid": blob.oid, "size": blob.size, "path": path}
    return {**entry, "lfs": lfs} if blob.lfs else entry


def _folder(folder: str, commit: Commit) -> JsonDict:
    """A folder's oid is a hash of what is in it, as git's is, though not the same one."""
    inside = "".join(f"{path}\0{blob.oid}\n" for path, blob in _content(folder, commit))
    oid = hashlib.sha1(inside.encode()).hexdigest()
    return {"type": "directory", "oid": oid, "size": 0, "path": folder}


def _content(path: str, commit: Commit) -> list[tuple[str, Blob]]:
    """The file at `path`, or the files below it, sorted."""
    if path in commit.files:
        return [(path, commit.files[path])]
    return sorted((p, blob) for p, blob in commit.files.items() if p.startswith(f"{path}/"))


def add_last_commits(entries: Sequence[JsonDict], history: Iterable[Commit]) -> None:
    """Give each entry of the first commit of `history` (newest first) the one that changed it."""
    log = iter(history)
    head = next(log)
    now = {entry["path"]: _content(entry["path"], head) for entry in entries}
    unchanged = list(entries)
    for commit in chain([head], log):
        unchanged = [e for e in unchanged if _content(e["path"], commit) == now[e["path"]]]
        if not unchanged:
            return
        line = commit_line(commit)
        for entry in unchanged:
            entry["lastCommit"] = {key: line[key] for key in ("id", "title", "date")}


def commit_line(commit: Commit) -> JsonDict:
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
