"""`zoo hub`: a hub of one's own."""

from __future__ import annotations

import functools
from datetime import timedelta
from pathlib import Path

import click

from zoo.cli.group import Verbs
from zoo.cli.options import FILE, FOLDER, Count, Duration, json_option
from zoo.cli.output import note, number, print_json, size
from zoo.extras import require

_ROOT = click.option(
    "--root", type=FOLDER, required=True, metavar="DIR", help="The folder that holds everything."
)


@click.group("hub", cls=Verbs)
def command() -> None:
    """Run a hub of one's own, for models that stay in the house.

    It is used with HF_ENDPOINT set to its address: by zoo, by the `hf` command, and by whatever
    else loads from the Hugging Face hub.

    \b
    Examples:
      zoo hub serve --root models --port 8000
      HF_ENDPOINT=http://127.0.0.1:8000 HF_TOKEN=... hf upload org/name ./folder
      zoo hub gc --root models
    """


@command.command("serve")
@_ROOT
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="The port to listen on; 0 takes a free one.",
)
@click.option(
    "--token", envvar="ZOO_HUB_TOKEN", help="The one token, which may read and write everything."
)
@click.option("--tokens", type=FILE, metavar="FILE", help="A TOML file of users and their tokens.")
@click.option("--private", is_flag=True, help="Show nothing to those without a token.")
@click.option("--max-file", type=Count(), metavar="BYTES", help="One file [default: 1 TiB].")
@click.option(
    "--max-commit",
    type=Count(),
    metavar="BYTES",
    help="The small files of a commit together [default: 1G].",
)
@click.option(
    "--max-files", type=Count(), metavar="N", help="Files that a commit changes [default: 25000]."
)
def serve(
    root: Path,
    host: str,
    port: int,
    token: str | None,
    tokens: Path | None,
    private: bool,
    **limits: float | None,
) -> None:
    """Serve the models in a folder until interrupted.

    The first line printed is the address. To write takes a token: one of --tokens, or the one of
    --token, or, where neither is given, one that is made up and kept in DIR/token.

    \b
    A file for --tokens has a table for each user:
      [ada]
      token = "hf_..."
      orgs = ["acme"]     # whose models she may see and change, beside her own
      role = "write"      # or "read", which is the default

    \b
    Examples:
      zoo hub serve --root models
      zoo hub serve --root models --host 0.0.0.0 --tokens users.toml --private
    """
    require("server", "The hub")
    from zoo.hub.access import EVERY_ORG, User, read_tokens, secret
    from zoo.hub.server import serve
    from zoo.hub.storage import Storage
    from zoo.hub.web import Limits

    if token and tokens:
        raise click.UsageError("Give --token or --tokens, not both.")
    made_up = None if token or tokens else root / "token"
    everyone = User(name="zoo", orgs=(EVERY_ORG,), role="write")
    one = token or (secret(made_up, "zoo_") if made_up else "")
    users = read_tokens(tokens) if tokens else {one: everyone}
    chosen = {name.removeprefix("max_"): int(n) for name, n in limits.items() if n is not None}
    serve(
        Storage(root),
        host,
        port,
        tokens=users,
        limits=Limits(**chosen),
        members_only=private,
        ready=functools.partial(_say, made_up),
    )


def _say(token: Path | None, url: str) -> None:
    """The address of a hub that is ready, and the file of the token that was made up for it."""
    click.echo(url)
    if token is not None:
        note(
            f"The token to write with is in {token}. For zoo, hf and others: HF_ENDPOINT={url} "
            f'HF_TOKEN="$(cat {token})"; or, in zoo, --endpoint {url} --token ...'
        )


@command.command("gc")
@_ROOT
@click.option(
    "--older-than",
    "grace",
    type=Duration(),
    default="1d",
    show_default=True,
    help="Leave alone what came in since: 0h, 12h, 1d.",
)
@click.option("--dry-run", is_flag=True, help="Remove nothing, show what would be.")
@json_option("an object with files, bytes and dry_run")
def gc(root: Path, grace: timedelta, dry_run: bool, as_json: bool) -> None:
    """Remove contents that no commit has, and what broken-off uploads left.

    The hub may go on serving meanwhile. An upload that is under way for longer than --older-than
    has to be started again.

    \b
    Examples:
      zoo hub gc --root models --dry-run
      zoo hub gc --root models --older-than 12h
    """
    require("server", "The hub")
    from zoo.hub.storage import Storage

    if not (root / "hub.sqlite3").exists():
        raise click.UsageError(f"{str(root)!r} is no hub: it has no hub.sqlite3.")
    found = Storage(root).gc(grace.total_seconds(), dry_run=dry_run)
    if as_json:
        print_json({"files": found.files, "bytes": found.bytes, "dry_run": dry_run})
    else:
        verb = "Would remove" if dry_run else "Removed"
        click.echo(f"{verb} {number(found.files, 'file')}, {size(found.bytes)}.")
