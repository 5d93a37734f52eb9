"""`zoo verify`: whether the files in the cache are still what they were."""

from __future__ import annotations

from typing import Any

import click

from zoo.cli.group import MISMATCH, Verb
from zoo.cli.options import json_option, source_options
from zoo.cli.output import note, number, print_json, print_table, size


@click.command("verify", cls=Verb)
@source_options("cache_dir", "endpoint")
@json_option(
    "an array of objects with status (ok, changed, missing), repo, commit, file, size, sha256, "
    "found (the sha256 now, or null) and path"
)
@click.pass_context
def command(ctx: click.Context, as_json: bool, **source: Any) -> None:
    """Check the files in the cache against their hashes.

    Each is hashed anew and compared with what was verified when it came.
    The exit code is 3 if a file changed or is missing. Loading a changed file is refused;
    `zoo pull` brings a missing one back.

    \b
    Examples:
      zoo verify
      zoo verify --json | jq '.[] | select(.status != "ok")'
    """
    from zoo.weights import cache
    from zoo.weights.handle import Source

    results = cache.verify(Source(**source))
    rows = [_row(result) for result in results]
    if as_json:
        print_json(rows)
    elif rows:
        cells = [(r["status"], size(r["size"]), r["repo"], r["file"]) for r in rows]
        print_table(("status", "size", "repo", "file"), cells, right=["size"])
    wrong = [row for row in rows if row["status"] != "ok"]
    note(f"{len(rows) - len(wrong)} of {number(len(rows), 'file')} as verified.")
    if wrong:
        ctx.exit(MISMATCH)


def _row(result: Any) -> dict[str, Any]:
    entry = result.entry
    status = "ok" if result.ok else "missing" if result.found is None else "changed"
    return {
        "status": status,
        "repo": entry.repo,
        "commit": entry.commit,
        "file": entry.file,
        "size": entry.size,
        "sha256": entry.sha256,
        "found": result.found,
        "path": str(entry.path),
    }
