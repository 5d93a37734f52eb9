"""`zoo pull`: fetch the files of a model."""

from __future__ import annotations

from typing import Any

import click

from zoo.cli.group import Verb
from zoo.cli.options import json_option, source_options
from zoo.cli.output import print_facts, print_json, size


@click.command("pull", cls=Verb)
@click.argument("name")
@source_options("revision", "endpoint", "token", "cache_dir", "lockfile", "offline")
@json_option("an object with name, origin, commit, pull_request, bytes and files (paths)")
def command(name: str, as_json: bool, **source: Any) -> None:
    """Fetch and verify the files of a model.

    Afterwards, loading the model asks nothing of the network. A branch or tag is looked up anew,
    so this also updates. What was interrupted can simply be started again.

    \b
    Examples:
      zoo pull resnet50
      zoo pull timm/resnet18.a1_in1k@main
      zoo pull resnet50 --lockfile zoo.lock
    """
    from zoo.loading.pulling import pull

    pulled = pull(name, **source)
    files = [str(path) for path in pulled.files]
    if as_json:
        facts = {"name": pulled.card.name, "origin": pulled.origin, "commit": pulled.commit}
        facts["pull_request"] = pulled.pull_request
        print_json({**facts, "bytes": pulled.bytes, "files": files})
        return
    print_facts(
        [
            ("Model", pulled.card.name),
            ("From", pulled.origin),
            ("Commit", pulled.commit),
            ("Pull request", pulled.pull_request),
            ("Size", f"{size(pulled.bytes)}, verified"),
            *(("File", file) for file in files),
        ]
    )
