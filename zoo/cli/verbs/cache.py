"""`zoo cache`: what zoo fetched, and how to be rid of it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.group import FAILED, Verbs
from zoo.cli.options import Duration, json_option, source_options
from zoo.cli.output import note, number, print_json, print_table, size

if TYPE_CHECKING:
    from zoo.weights.cache import CacheEntry

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
@source_options("cache_dir", "endpoint")
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
@source_options("cache_dir", "endpoint")
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
    note(f"Removed {_count(removed)}.")


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
@source_options("cache_dir", "endpoint")
@json_option(f"an array of objects, one for each file, with {_KEYS}")
@click.pass_context
def prune(
    ctx: click.Context,
    unused_for: timedelta,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **source: Any,
) -> None:
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
    if dry_run or not as_json:
        _show(found, as_json)
    if dry_run:
        return
    if found and not yes and not _confirmed(f"Remove {_count(found)}?"):
        note("Nothing was removed. With --yes there is no question.")
        ctx.exit(FAILED)
    removed = cache.prune(Source(**source), unused_for)
    if as_json:
        _show(removed, as_json)
    note(f"Removed {_count(removed)}.")


def _confirmed(question: str) -> bool:
    """Ask the person at the terminal; an end of input is a no."""
    click.echo(f"{question} [y/N] ", err=True, nl=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _show(entries: list[CacheEntry], as_json: bool) -> None:
    if as_json:
        print_json([_row(entry) for entry in entries])
    elif entries:
        print_table(
            ("used", "size", "files", "commit", "repo"), _groups(entries), right=["size", "files"]
        )


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


def _groups(entries: Iterable[CacheEntry]) -> Iterator[tuple[object, ...]]:
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


def _count(entries: list[CacheEntry]) -> str:
    return f"{number(len(entries), 'file')}, {size(sum(entry.size for entry in entries))}"
