"""`zoo cache`: what zoo fetched, and how to be rid of it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.group import Verbs
from zoo.cli.options import Duration, json_option, source_options
from zoo.cli.output import note, print_json, print_table, size

if TYPE_CHECKING:
    from zoo.weights.cache import CacheEntry

_cache_options = source_options("cache_dir", "endpoint")
_KEYS = "repo, endpoint, commit, file, path, sha256, size and last_used"


@click.group("cache", cls=Verbs)
def command() -> None:
    """List and remove the files that zoo fetched.

    Other programs share the cache; what they fetched is left to them.

    \b
    Examples:
      zoo cache ls
      zoo cache rm timm/resnet50.a1_in1k
      zoo cache prune --older-than 30d
    """


@command.command("ls")
@_cache_options
@json_option(f"an array of objects, one for each file, with {_KEYS}")
def ls(as_json: bool, **source: Any) -> None:
    """List what zoo fetched, by repo and commit.

    \b
    Examples:
      zoo cache ls
      zoo cache ls --json | jq 'map(.size) | add'
    """
    from zoo.weights import cache
    from zoo.weights.handle import Source

    _show(cache.entries(Source(**source)), as_json)


@command.command("rm")
@click.argument("repo")
@_cache_options
@json_option(f"an array of objects, one for each file removed, with {_KEYS}")
def rm(repo: str, as_json: bool, **source: Any) -> None:
    """Remove the files of a repo, at all commits.

    REPO is org/name, an address, or a name of `zoo list`, whose repo is then meant.

    \b
    Examples:
      zoo cache rm timm/resnet50.a1_in1k
      zoo cache rm resnet50
    """
    from zoo.registry import registry
    from zoo.weights import cache
    from zoo.weights.handle import Source

    where = registry.info(repo).weights if registry.is_name(repo) else None
    origin = where and (where.repo or where.url)
    removed = cache.remove(origin or repo.removeprefix("hf://"), Source(**source))
    _show(removed, as_json)
    _freed(removed)


@command.command("prune")
@click.option(
    "--older-than",
    "unused_for",
    type=Duration(),
    default="30d",
    show_default=True,
    help="Not loaded for this long: 12h, 30d, 2w.",
)
@click.option("--dry-run", is_flag=True, help="Remove nothing, show what would be.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@_cache_options
@json_option(f"an array of objects, one for each file, with {_KEYS}")
def prune(unused_for: timedelta, dry_run: bool, yes: bool, as_json: bool, **source: Any) -> None:
    """Remove what has not been loaded for a while.

    It shows what that is and asks first. What downloads that broke off left behind goes too.

    \b
    Examples:
      zoo cache prune --dry-run
      zoo cache prune --older-than 2w --yes
    """
    from zoo.weights import cache
    from zoo.weights.handle import Source

    found = cache.prune(Source(**source), unused_for, dry_run=True)
    _show(found, as_json)
    if dry_run:
        return
    if found and not yes:
        click.confirm(f"Remove {_count(found)}?", abort=True, err=True)
    _freed(cache.prune(Source(**source), unused_for))


def _show(entries: list[CacheEntry], as_json: bool) -> None:
    if as_json:
        print_json([_row(entry) for entry in entries])
    elif entries:
        print_table(("used", "size", "files", "commit", "repo"), _groups(entries), right=["size"])


def _row(entry: CacheEntry) -> dict[str, Any]:
    return {
        "repo": entry.repo,
        "endpoint": entry.endpoint,
        "commit": entry.commit,
        "file": entry.file,
        "path": str(entry.path),
        "sha256": entry.sha256,
        "size": entry.size,
        "last_used": entry.last_used.isoformat(timespec="seconds"),
    }


def _groups(entries: Iterable[CacheEntry]):
    """A row for each repo and commit, of the last use and the total size."""

    def key(entry: CacheEntry) -> tuple[str, str, str]:
        return entry.repo, entry.endpoint or "", entry.commit or ""

    for (repo, _, commit), group in groupby(sorted(entries, key=key), key):
        files = list(group)
        used = max(entry.last_used for entry in files)
        total = sum(entry.size for entry in files)
        yield _ago(datetime.now(UTC) - used), size(total), len(files), commit[:12], repo


def _ago(span: timedelta) -> str:
    hours = int(span.total_seconds() // 3600)
    return f"{hours // 24} d ago" if hours >= 48 else f"{hours} h ago" if hours else "just now"


def _freed(removed: list[CacheEntry]) -> None:
    note(f"Removed {_count(removed)}.")


def _count(entries: list[CacheEntry]) -> str:
    return f"{len(entries)} files, {size(sum(entry.size for entry in entries))}"
