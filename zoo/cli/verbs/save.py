"""`zoo save`: a model to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import zoo
from zoo.cli.group import Verb
from zoo.cli.models import load
from zoo.cli.options import FOLDER, WEIGHTS, json_option, source_options
from zoo.cli.output import print_json
from zoo.errors import DiskError


@click.command("save", cls=Verb)
@click.argument("name")
@click.argument("folder", type=FOLDER)
@click.option("--force", is_flag=True, help="Write into a folder that has files already.")
@WEIGHTS
@source_options()
@json_option("an object with folder and files")
def command(name: str, folder: Path, force: bool, as_json: bool, **options: Any) -> None:
    """Write a model to a folder.

    That is model.safetensors, config.json and README.md. Tensors keep the names, shapes and types
    of the library that they came from, which can load the folder; so can zoo. The three files
    appear together or not at all.

    \b
    Examples:
      zoo save resnet50 ./resnet50
      zoo save resnet50 ./resnet50 --weights finetuned.safetensors --force
    """
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise DiskError(
            f"{folder} has files in it, and was left as it is. Name another folder, or write into "
            "this one with --force, which replaces the files of the same names alone."
        )
    model = load(name, **options)
    written = zoo.save(model, folder)
    if as_json:
        files = ("model.safetensors", "config.json", "README.md")
        print_json({"folder": str(written), "files": [str(written / file) for file in files]})
    else:
        click.echo(f"{name} is in {written}")
