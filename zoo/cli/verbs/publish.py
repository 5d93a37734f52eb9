"""`zoo publish`: a model onto a hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zoo.cli.group import MISMATCH, Verb
from zoo.cli.models import start_keras
from zoo.cli.options import json_option, source_options
from zoo.cli.output import note, number, print_json, print_table, size
from zoo.errors import PublishError

if TYPE_CHECKING:
    from zoo.publishing import GateReport


@click.command("publish", cls=Verb)
@click.argument("name")
@click.argument("target")
@source_options("endpoint", "token")
@click.option("--private", is_flag=True, help="Make a new repo private; fail if it is public.")
@click.option(
    "--revision",
    metavar="BRANCH",
    default="main",
    show_default=True,
    help="Made if it is not there.",
)
@click.option("--message", metavar="TEXT", help="Of the commit.")
@click.option("--tag", help="A name for the commit.")
@click.option("--create-pr", is_flag=True, help="Propose the commit in a pull request.")
@click.option("--license", metavar="ID", help="Such as apache-2.0 [default: the card's].")
@click.option("--prune", is_flag=True, help="Remove files there that are not published.")
@click.option("--force", is_flag=True, help="Replace another architecture, or a page by hand.")
@click.option("--untrained", is_flag=True, help="Let weights through that were never trained.")
@click.option("--dry-run", is_flag=True, help="Stop after the checks; nothing is written.")
@json_option("an object with repo, commit, url and report (target, passed, checks, files, bytes)")
@click.pass_context
def command(
    ctx: click.Context, name: str, target: str, as_json: bool, dry_run: bool, **options: Any
) -> None:
    """Check a model, and publish it on a hub or into a folder.

    NAME is a model as for the other verbs, or a folder, whose files are published as they are.
    TARGET is a repo, org/name, or a folder, as a path that starts with ./, ../, / or ~.
    What will be sent is checked first; the exit code is 3 if it does not pass, and nothing is sent
    then. The files appear in one commit, or not at all.

    \b
    Examples:
      zoo publish ./my_checkpoint acme/digits --dry-run
      zoo publish ./my_checkpoint acme/digits --private --tag v1
      zoo publish resnet50 ../models/resnet50
    """
    from zoo.publishing.flow import check, publish

    show = None if as_json else _show
    check(name, target, dry_run=dry_run, **options)
    start_keras()
    try:
        done = publish(name, target, dry_run=dry_run, show=show, **options)
    except PublishError as error:
        if as_json:
            print_json(
                {"repo": target, "commit": None, "url": None, "report": error.report.to_dict()}
            )
        note(str(error))
        ctx.exit(MISMATCH)
    if as_json:
        facts = {"repo": done.repo, "commit": done.commit, "url": done.url}
        print_json({**facts, "report": done.report.to_dict()})
    elif dry_run:
        note("Passed. Nothing was sent: this was a dry run.")
    else:
        click.echo(f"Published: {done.url}" + (f" at commit {done.commit}" if done.commit else ""))


def _show(report: GateReport) -> None:
    """The files and what becomes of them, then the checks, with what each found."""
    files = [(f.state, "" if f.size is None else size(f.size), f.name) for f in report.files]
    print_table(("file", "size", "name"), files, right=["size"])
    click.echo()
    checks = [("ok" if c.passed else "FAILED", c.name, c.found) for c in report.checks]
    print_table(("", "check", "found"), checks)
    count = f"{number(report.parameters, 'parameter')}, {size(report.bytes)}"
    click.echo(f"\n{report.target}: {count}")
