"""`zoo lock`: write down which files models consist of."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from zoo.cli.group import Verb
from zoo.cli.options import FILE, json_option, source_options
from zoo.cli.output import note, number, print_json, print_table, size


@click.command("lock", cls=Verb)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--lockfile",
    type=FILE,
    metavar="FILE",
    default="zoo.lock",
    show_default=True,
    help="Made, or added to.",
)
@source_options("endpoint", "token", "cache_dir", "offline")
@json_option("an object with lockfile and files, an array as in the lockfile")
def command(names: tuple[str, ...], lockfile: Path, as_json: bool, **source: Any) -> None:
    """Pull models and pin their files in a lockfile.

    It holds the commit, size and sha256 of each file; a load with this lockfile takes these files
    and no others. Lock a model again to move it to its newest commit. The lockfile is written once
    everything is there.

    \b
    Examples:
      zoo lock resnet50 timm/resnet18.a1_in1k
      zoo predict resnet50 cat.jpg --lockfile zoo.lock
    """
    from zoo.loading.locking import lock

    files = lock(names, lockfile, **source).files
    if as_json:
        print_json({"lockfile": str(lockfile), "files": [asdict(file) for file in files]})
        return
    rows = [(f.repo, (f.commit or "")[:12], size(f.size), f.file) for f in files]
    print_table(("repo", "commit", "size", "file"), rows, right=["size"])
    note(f"{lockfile} locks {number(len(files), 'file')}.")
